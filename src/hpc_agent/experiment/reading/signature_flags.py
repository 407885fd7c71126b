"""Flags from signatures and decorators: plain functions, click, typer and fire."""

from __future__ import annotations

import ast
import hashlib
import json

import msgspec

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import TYPES, ExecutorFacts, FlagFacts, Switch, type_of_value
from hpc_agent.experiment_kit.registered_functions import option_of

_LISTS = ("list", "List", "Sequence", "tuple", "Tuple", "Iterable")
_WITHOUT_FLAGS = ("command", "group", "pass_context", "pass_obj", "version_option")
# By the setting of a click option; "/" is a name such as --on/--off.
_CLICK_SWITCHES: dict[str, Switch] = {
    "/": ("boolean_optional", "bool", False), "is_flag": ("store_true", "bool", False), "count": ("count", "int", None),
    "multiple": ("append", "str", None), "": ("store", "str", None),
}  # fmt: skip
Parameter = tuple[ast.arg, ast.expr | None]


def parameters_of(function: syntax.Function) -> list[Parameter]:
    """Return each parameter that can be given by name, with its default."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(named) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    pairs = list(zip([*named, *arguments.kwonlyargs], defaults, strict=True))[len(arguments.posonlyargs) :]
    return [pair for pair in pairs if pair[0].arg not in ("self", "cls")]


def flags_of_function(function: syntax.Function, scope: syntax.Scope) -> tuple[list[FlagFacts], bool]:
    """Return a flag for each parameter, and True when the function has ``**kwargs``."""
    return [flag_of_parameter(one, scope) for one in parameters_of(function)], function.args.kwarg is not None


def flag_of_parameter(parameter: Parameter, scope: syntax.Scope) -> FlagFacts:
    argument, default = parameter
    facts = FlagFacts(name=argument.arg, options=[option_of(argument.arg)], required=default is None)
    if default is not None:
        facts.dynamic = not facts.set_default(default, scope)
    annotation = argument.annotation
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            annotation = None
    if annotation is None:
        facts.type = type_of_value(facts.default)
    else:
        _set_type(facts, annotation, scope)
    if facts.type == "bool" and facts.nargs is None:
        facts.action = "store_true" if facts.default is False else "boolean_optional"
    return facts


def _set_type(facts: FlagFacts, node: ast.expr, scope: syntax.Scope) -> None:
    """Set the type, choices and nargs that an annotation names."""
    node = _without_none(node)
    inner = _inner_types(node)
    name = syntax.last_name(node.value if isinstance(node, ast.Subscript) else node)
    if name == "Annotated" and len(inner) > 1:
        _set_type(facts, inner[0], scope)
    elif name == "Literal" and inner:
        facts.set_choices(ast.List(inner), scope)
        facts.type = type_of_value(facts.choices[0]) if facts.choices else "str"
    elif name in _LISTS:
        facts.nargs, facts.type = "+", TYPES.get(syntax.last_name(inner[0]), "str") if inner else "str"
    else:
        facts.type = TYPES.get(name, "json")


def _inner_types(node: ast.expr) -> list[ast.expr]:
    """Return ``A`` and ``B`` for ``Outer[A, B]``."""
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _without_none(node: ast.expr) -> ast.expr:
    """Return T for ``Optional[T]``, ``Union[T, None]`` and ``T | None``; a union of several types as it is."""
    options: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        options = [node.left, node.right]
    elif isinstance(node, ast.Subscript) and syntax.last_name(node.value) in ("Optional", "Union"):
        options = _inner_types(node)
    real = [option for option in options if not (isinstance(option, ast.Constant) and option.value is None)]
    return _without_none(real[0]) if len(real) == 1 else node


def signature_sha(flags: list[FlagFacts]) -> str:
    """Return the SHA-256 of the flags as canonical JSON; their order counts."""
    return hashlib.sha256(json.dumps(msgspec.to_builtins(flags), sort_keys=True).encode()).hexdigest()


def read_click(tree: ast.Module, scope: syntax.Scope, facts: ExecutorFacts) -> None:
    """Add the options and arguments of every command, and the names of commands of a group as ``subcommands``."""
    for function in syntax.functions_of(tree):
        decorators = [(syntax.last_name(node), node) for node in function.decorator_list]
        commands = [syntax.dotted(syntax.called(node)) for word, node in decorators if word in ("command", "group")]
        if any(name.endswith(".command") and not name.startswith("click.") for name in commands):
            facts.subcommands.append(function.name.replace("_", "-"))
        for word, node in decorators if commands else ():
            flag = None
            if word in ("option", "argument") and isinstance(node, ast.Call) and node.args:
                flag = _click_flag(node, scope, word == "argument")
            facts.flags += [flag] if flag else []
            facts.complete &= flag is not None or word in _WITHOUT_FLAGS  # another decorator may add any flag


def _click_flag(node: ast.Call, scope: syntax.Scope, positional: bool) -> FlagFacts | None:
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
    facts.action, facts.type, facts.default = _CLICK_SWITCHES[switch]
    needed = positional and "default" not in given and not _is(False, given.get("required"))
    facts.required = needed or _is(True, given.get("required"))
    kind = given.get("type")
    if syntax.last_name(kind) == "Choice" and isinstance(kind, ast.Call) and kind.args:
        facts.set_choices(kind.args[0], scope)
    else:
        facts.type = TYPES.get(syntax.last_name(kind), facts.type)
    if "default" in given and not facts.set_default(given["default"], scope):
        facts.default_text = None
    nargs = scope.value_or(given.get("nargs"), None)
    facts.nargs = "*" if nargs == -1 else nargs
    facts.help = str(scope.value_or(given.get("help"), ""))
    if not syntax.last_name(kind) and facts.action == "store" and isinstance(facts.default, (bool, int, float)):
        facts.type = type_of_value(facts.default)
    return facts


def _is(value: bool, node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def read_typer(tree: ast.Module, scope: syntax.Scope, facts: ExecutorFacts) -> None:
    """Add the parameters of the functions behind ``typer.run(f)`` and ``@app.command()``."""
    choices = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(syntax.dotted(base).endswith("Enum") for base in node.bases):
            values = [scope.value_or(item.value, None) for item in node.body if isinstance(item, ast.Assign)]
            choices[node.name] = [str(value) for value in values if value is not None]
    for function in _typer_functions(tree, facts):
        for parameter in parameters_of(function):
            if not syntax.dotted(parameter[0].annotation).endswith("Context"):
                facts.flags.append(_typer_flag(parameter, scope, choices))


def _typer_functions(tree: ast.Module, facts: ExecutorFacts) -> list[syntax.Function]:
    """Return the commands and callbacks, else the functions in calls of run. Add the names of several commands."""
    by_name = {function.name: function for function in syntax.functions_of(tree)}
    roles = {name: set(map(syntax.last_name, function.decorator_list)) for name, function in by_name.items()}
    commands = [name for name in by_name if "command" in roles[name]]
    if len(commands) > 1:
        facts.subcommands += [name.replace("_", "-") for name in commands]
    started = [name for name in by_name if roles[name] & {"command", "callback"}]
    if not started:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
        started = [syntax.dotted(call.args[0]) for call in calls if syntax.dotted(call.func) in ("typer.run", "run")]
    return [by_name[name] for name in started if name in by_name]


def _typer_flag(parameter: Parameter, scope: syntax.Scope, choices: dict[str, list[str]]) -> FlagFacts:
    """Return a flag: positional without a default, an option with one, else as ``Option(...)`` or ``Argument(...)`` says."""
    argument, default = parameter
    flag = flag_of_parameter(parameter, scope)
    marker, annotation = default, argument.annotation
    if isinstance(annotation, ast.Subscript) and syntax.dotted(annotation.value).endswith("Annotated"):
        annotation, *extras = _inner_types(annotation)
        marker = next((extra for extra in extras if isinstance(extra, ast.Call)), marker)
    flag.choices = choices.get(syntax.dotted(annotation), flag.choices)
    if flag.choices:
        flag.type = "str"
    flag.dynamic, flag.default_text = False, None
    word = syntax.last_name(marker) if isinstance(marker, ast.Call) else ""
    names: list[str] = []
    if isinstance(marker, ast.Call) and word in ("Option", "Argument"):
        names = _read_marker(flag, marker, marker is default, scope)
    if word == "Argument" or (default is None and word != "Option"):
        flag.options, flag.nargs = [], "*" if flag.nargs else None
    elif flag.type == "bool":
        # ``--name`` and ``--no-name``; a single given name is an option without its opposite.
        long = [name for name in names if name.startswith("--")] or flag.options
        flag.options = [part for name in long for part in name.split("/")]
        flag.action = "store_true" if len(flag.options) == 1 and names else "boolean_optional"
        if len(flag.options) == 1 and not names:
            flag.options.append("--no-" + flag.options[0][2:])
    else:
        flag.options = names or flag.options
        if flag.nargs:
            flag.action, flag.nargs = "append", None
    return flag


def _read_marker(flag: FlagFacts, marker: ast.Call, is_default: bool, scope: syntax.Scope) -> list[str]:
    """Set default and help; a marker that ``is_default`` has the default as its first argument. Return its options."""
    values = [scope.value_or(part, None) for part in marker.args]
    if is_default:
        first = values.pop(0) if values else None
        flag.required = first is Ellipsis
        flag.default = None if first is Ellipsis else first
    for name, node in syntax.keywords_of(marker).items():
        if name in ("help", "default"):
            value = scope.value_or(node, getattr(flag, name))
            setattr(flag, name, None if value is Ellipsis else value)
    return [value for value in values if isinstance(value, str) and value.startswith("-")]


def read_fire(tree: ast.Module, scope: syntax.Scope, facts: ExecutorFacts) -> None:
    """Add every parameter of ``fire.Fire(function)`` as an option ``--name``; flags of other components are unknown."""
    by_name = {function.name: function for function in syntax.functions_of(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and syntax.dotted(node.func) in ("fire.Fire", "Fire"):
            function = by_name.get(syntax.dotted(node.args[0])) if node.args else None
            flags, accepts_any = flags_of_function(function, scope) if function else ([], True)
            for flag in flags:
                flag.options, flag.action, flag.nargs = ["--" + flag.name], "store", None
            facts.flags += flags
            facts.complete &= not accepts_any
