"""Flags of click: the options of the command or group that a script starts, and those of each subcommand."""

from __future__ import annotations

import ast

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import (
    TYPES,
    ExecutorFacts,
    FlagFacts,
    SubcommandFacts,
    Switch,
    type_of_value,
)
from hpc_agent.experiment.reading.modules import Found, Module

_KINDS = ("command", "group")
_WITHOUT_FLAGS = (*_KINDS, "pass_context", "pass_obj", "version_option", "help_option", "wraps")
# Click 8.2 leaves these ends of a function's name out of the name of its command.
_ENDS = ("_command", "_cmd", "_group", "_grp")
# By the setting of an option; "/" is a name such as --on/--off.
_SWITCHES: dict[str, Switch] = {
    "/": ("boolean_optional", "bool", False), "is_flag": ("store_true", "bool", False), "count": ("count", "int", None),
    "multiple": ("append", "str", None), "": ("store", "str", None),
}  # fmt: skip


def read_click(module: Module, facts: ExecutorFacts) -> None:
    """Add the options and arguments of the started command, and the subcommands of a started group."""
    facts.spelling = "--{name}"
    commands = {name: found for name in module.definitions if (found := _command(module.find(name)))}
    called = [syntax.dotted(call.node.func) for call in module.started]
    names = [name.removesuffix(".main") for name in called]
    started = next((found for name in names if (found := _command(module.find(name)))), None)
    groups = [found for found in commands.values() if _kind(found) == "group" and not _parent(found)]
    if started is None and len(groups or commands) == 1:
        started = (groups or list(commands.values()))[0]
    if started is None:
        for found in commands.values():
            facts.flags += _flags(found, facts)
        facts.doubt("the source does not show which command is started")
        return
    facts.flags = _flags(started, facts)
    if _kind(started) == "group":
        _add_subcommands(started, facts)


def _add_subcommands(group: Found, facts: ExecutorFacts) -> None:
    """Add the commands that stand under ``@group.command()`` or in a call of ``group.add_command(command, name)``."""
    module, scope = group.module, group.module.scope
    inner = [(found, None) for found in map(_command, map(module.find, module.definitions)) if found]
    named = [(found, name) for found, name in inner if _parent(found) == group.node.name]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and syntax.dotted(node.func) == f"{group.node.name}.add_command" and node.args:
            found = _command(module.find(syntax.dotted(node.args[0])))
            name = node.args[1] if len(node.args) > 1 else syntax.keywords_of(node).get("name")
            named += [(found, scope.value_or(name, None))] if found else []
            if found is None:
                facts.doubt(f"the options of the command {ast.unparse(node.args[0])} are not known")
    decorator = _decorator(group)
    setting = syntax.keywords_of(decorator) if isinstance(decorator, ast.Call) else {}
    facts.subcommand_name = "command"
    facts.subcommand_required = not _is(True, setting.get("invoke_without_command"))
    if "cls" in setting or not named:
        facts.doubt("the source does not show every command of the group")
    for found, name in named:
        command = SubcommandFacts(
            name=name or _name(found), doc=syntax.first_line(found.node), flags=_flags(found, facts)
        )
        facts.subcommands.append(command)
        if _kind(found) == "group":
            facts.doubt(f"the command {command.name} has commands of its own, which are not listed")


def _decorator(found: Found) -> ast.expr:
    return next(node for node in found.node.decorator_list if syntax.last_name(node) in _KINDS)


def _command(found: Found | None) -> Found | None:
    if found is None or not isinstance(found.node, syntax.Function):
        return None
    return found if any(syntax.last_name(node) in _KINDS for node in found.node.decorator_list) else None


def _kind(found: Found) -> str:
    return syntax.last_name(_decorator(found))


def _parent(found: Found) -> str:
    """Return ``cli`` for ``@cli.command()``, and an empty text for ``@click.command()``."""
    name = syntax.dotted(syntax.called(_decorator(found))).rpartition(".")[0]
    return "" if name in found.module.imports else name


def _name(found: Found) -> str:
    """Return the name of a command: of its decorator, else made from the function's as click does."""
    node = _decorator(found)
    given = [*node.args[:1], syntax.keywords_of(node).get("name")] if isinstance(node, ast.Call) else []
    names = [found.module.scope.value_or(part, None) for part in given]
    plain = found.node.name.lower()
    plain = next((plain.removesuffix(end) for end in _ENDS if plain.endswith(end)), plain)
    return next((name for name in names if isinstance(name, str)), plain.replace("_", "-"))


def _flags(found: Found, facts: ExecutorFacts) -> list[FlagFacts]:
    flags = []
    for node in found.node.decorator_list:
        word = syntax.last_name(node)
        flag = None
        if word in ("option", "argument") and isinstance(node, ast.Call) and node.args:
            flag = _flag(node, found.module.scope, word == "argument")
        flags += [flag] if flag else []
        if flag is None and word not in _WITHOUT_FLAGS:
            facts.doubt(f"the decorator {ast.unparse(syntax.called(node) or node)} may add options")
    return flags


def _flag(node: ast.Call, scope: syntax.Scope, positional: bool) -> FlagFacts | None:
    given = syntax.keywords_of(node)
    try:
        names = [str(scope.value(argument)) for argument in node.args]
    except syntax.Unknown:
        return None
    options = [part for name in names if name.startswith("-") for part in name.split("/")]
    plain = [name for name in names if not name.startswith("-")]
    long = [option for option in options if option.startswith("--")]
    name = plain[0] if plain else (long or options)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=name.lower(), options=options, hidden=_is(True, given.get("hidden")))
    settings = [word for word in ("is_flag", "count", "multiple") if _is(True, given.get(word))]
    switch = "/" if any("/" in name for name in names) else (settings or [""])[0]
    facts.action, facts.type, facts.default = _SWITCHES[switch]
    needed = positional and "default" not in given and not _is(False, given.get("required"))
    facts.required = needed or _is(True, given.get("required"))
    kind = given.get("type")
    if syntax.last_name(kind) == "Choice" and isinstance(kind, ast.Call) and kind.args:
        facts.set_choices(kind.args[0], scope)
        facts.any_case = _is(False, syntax.keywords_of(kind).get("case_sensitive"))
    else:
        facts.type = TYPES.get(syntax.last_name(kind), facts.type)
    if "default" in given and not facts.set_default(given["default"], scope):
        facts.default_text = None
    nargs = scope.value_or(given.get("nargs"), None)
    facts.nargs = "*" if nargs == -1 else nargs
    facts.help = str(scope.value_or(given.get("help"), ""))
    if not syntax.last_name(kind) and facts.action == "store" and isinstance(facts.default, (bool, int, float)):
        facts.type = type_of_value(facts.default)
    if facts.type == "bool" and facts.action == "store":
        facts.action = "store_bool"
    return facts


def _is(value: bool, node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
