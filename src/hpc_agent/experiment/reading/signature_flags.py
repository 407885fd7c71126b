"""Flags from signatures and decorators: plain functions, click, typer and fire."""

from __future__ import annotations

import ast
import hashlib
import json

import msgspec

from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, FlagType, type_of_value
from hpc_agent.experiment.reading.syntax import (
    Function,
    Scope,
    Unknown,
    as_json,
    called,
    dotted,
    functions_of,
    keywords_of,
    last_name,
    source_of,
)
from hpc_agent.experiment_kit.registered_functions import option_of

_SIMPLE: dict[str, FlagType] = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "Path": "path", "PathLike": "path",
}  # fmt: skip
_CLICK_TYPES: dict[str, FlagType] = {
    "int": "int", "INT": "int", "IntRange": "int", "float": "float", "FLOAT": "float", "FloatRange": "float", "str": "str",
    "bool": "bool", "BOOL": "bool", "Path": "path", "File": "path",
}  # fmt: skip
_WITHOUT_FLAGS = ("command", "group", "pass_context", "pass_obj", "version_option")
_LISTS = ("list", "List", "Sequence", "tuple", "Tuple", "Iterable")
Parameter = tuple[ast.arg, ast.expr | None]


def parameters_of(function: Function) -> list[Parameter]:
    """Return each parameter that can be given by name, with its default."""
    arguments = function.args
    missing = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    defaults = ([None] * missing + list(arguments.defaults))[len(arguments.posonlyargs) :]
    pairs = [
        *zip(arguments.args, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [pair for pair in pairs if pair[0].arg not in ("self", "cls")]


def flags_of_function(function: Function, scope: Scope) -> tuple[list[FlagFacts], bool]:
    """Return a flag for each parameter, and True when the function has ``**kwargs``."""
    flags = [flag_of_parameter(parameter, scope) for parameter in parameters_of(function)]
    return flags, function.args.kwarg is not None


def set_choices(facts: FlagFacts, node: ast.expr, scope: Scope) -> None:
    try:
        facts.choices = [as_json(choice) for choice in scope.value(node)]
    except (Unknown, TypeError):
        facts.dynamic = True


def flag_of_parameter(parameter: Parameter, scope: Scope) -> FlagFacts:
    argument, default = parameter
    facts = FlagFacts(name=argument.arg, options=[option_of(argument.arg)], required=default is None)
    if default is not None:
        try:
            facts.default = scope.json(default)
        except Unknown:
            facts.default_text, facts.dynamic = source_of(default), True
    annotation = _unquoted(argument.annotation)
    if annotation is None:
        facts.type = type_of_value(facts.default)
    else:
        _set_type(facts, annotation, scope)
    if facts.type == "bool" and facts.nargs is None:
        facts.action = "store_true" if facts.default is False else "boolean_optional"
    return facts


def _unquoted(node: ast.expr | None) -> ast.expr | None:
    """Return the expression in a quoted annotation."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return None
    return node


def _set_type(facts: FlagFacts, node: ast.expr, scope: Scope) -> None:
    """Set the type, choices and nargs that an annotation names."""
    node = _without_none(node)
    inner = _inner_types(node)
    name = last_name(node.value if isinstance(node, ast.Subscript) else node)
    if name in _SIMPLE:
        facts.type = _SIMPLE[name]
    elif name == "Annotated" and len(inner) > 1:
        _set_type(facts, inner[0], scope)
    elif name == "Literal" and inner:
        try:
            facts.choices = [scope.json(value) for value in inner]
            facts.type = type_of_value(facts.choices[0])
        except Unknown:
            facts.dynamic = True
    elif name in _LISTS:
        facts.nargs = "+"
        facts.type = _SIMPLE.get(last_name(inner[0]), "str") if inner else "str"
    else:
        facts.type = "json"


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
    elif isinstance(node, ast.Subscript) and last_name(node.value) in ("Optional", "Union"):
        options = _inner_types(node)
    real = [option for option in options if not (isinstance(option, ast.Constant) and option.value is None)]
    return _without_none(real[0]) if len(real) == 1 else node


def signature_sha(flags: list[FlagFacts]) -> str:
    """Return the SHA-256 of the flags as canonical JSON; their order counts."""
    return hashlib.sha256(json.dumps(msgspec.to_builtins(flags), sort_keys=True).encode()).hexdigest()


# -- click, typer, fire --------------------------------------------------------------------------------------------


def read_click(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """Add the options and arguments of every command, and the names of commands of a group as ``subcommands``."""
    for function in functions_of(tree):
        decorators = [(last_name(decorator), decorator) for decorator in function.decorator_list]
        commands = [dotted(called(decorator)) for word, decorator in decorators if word in ("command", "group")]
        if not commands:
            continue
        if any(name.endswith(".command") and not name.startswith("click.") for name in commands):
            facts.subcommands.append(_command_name(function))
        for word, decorator in decorators:
            if word in ("option", "argument") and isinstance(decorator, ast.Call):
                flag = _click_flag(decorator, scope, word == "argument")
                facts.flags += [flag] if flag else []
                facts.complete = facts.complete and flag is not None
            elif word not in (*_WITHOUT_FLAGS, "option", "argument"):
                facts.complete = False  # another decorator may add any flag


def _command_name(function: Function) -> str:
    return function.name.replace("_", "-")


def _click_flag(node: ast.Call, scope: Scope, positional: bool) -> FlagFacts | None:
    given = keywords_of(node)
    try:
        names = [str(scope.value(argument)) for argument in node.args]
    except Unknown:
        return None
    options = [part for name in names if name.startswith("-") for part in name.split("/")]
    plain = [name for name in names if not name.startswith("-")]
    long = [option for option in options if option.startswith("--")]
    name = plain[0] if plain else (long or options)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=name.lower(), options=options, required=positional, hidden=_is(True, given.get("hidden")))
    if any("/" in name for name in names):
        facts.action, facts.type, facts.default = "boolean_optional", "bool", False
    elif _is(True, given.get("is_flag")):
        facts.action, facts.type, facts.default = "store_true", "bool", False
    elif _is(True, given.get("count")):
        facts.action, facts.type = "count", "int"
    elif _is(True, given.get("multiple")):
        facts.action = "append"
    _set_click_type(facts, given.get("type"), scope)
    _set_click_values(facts, given, scope)
    needed = positional and "default" not in given and not _is(False, given.get("required"))
    facts.required = needed or _is(True, given.get("required"))
    return facts


def _is(value: bool, node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _set_click_type(facts: FlagFacts, kind: ast.expr | None, scope: Scope) -> None:
    if last_name(kind) == "Choice" and isinstance(kind, ast.Call) and kind.args:
        set_choices(facts, kind.args[0], scope)
    else:
        facts.type = _CLICK_TYPES.get(last_name(kind), facts.type)


def _set_click_values(facts: FlagFacts, given: dict[str, ast.expr], scope: Scope) -> None:
    for name in ("default", "nargs", "help"):
        try:
            value = scope.json(given.get(name))
        except Unknown:
            continue
        if name == "nargs":
            facts.nargs = "*" if value == -1 else value
        else:
            setattr(facts, name, value if name == "default" else str(value))
    if not last_name(given.get("type")) and facts.action == "store" and isinstance(facts.default, (bool, int, float)):
        facts.type = type_of_value(facts.default)


def read_typer(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """Add the parameters of the functions behind ``typer.run(f)`` and ``@app.command()``."""
    choices = _enum_values(tree, scope)
    for function in _typer_functions(tree, facts):
        for parameter in parameters_of(function):
            if not dotted(parameter[0].annotation).endswith("Context"):
                facts.flags.append(_typer_flag(parameter, scope, choices))


def _typer_functions(tree: ast.Module, facts: ExecutorFacts) -> list[Function]:
    by_name = {function.name: function for function in functions_of(tree)}
    decorators = {name: [dotted(called(d)) for d in function.decorator_list] for name, function in by_name.items()}
    commands = [name for name, words in decorators.items() if any(word.endswith(".command") for word in words)]
    callbacks = [name for name, words in decorators.items() if any(word.endswith(".callback") for word in words)]
    if len(commands) > 1:
        facts.subcommands += [_command_name(by_name[name]) for name in commands]
    started = [name for name in by_name if name in (*commands, *callbacks)]
    if not started:
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
        started = [dotted(call.args[0]) for call in calls if dotted(call.func) in ("typer.run", "run")]
    return [by_name[name] for name in started if name in by_name]


def _typer_flag(parameter: Parameter, scope: Scope, choices: dict[str, list[str]]) -> FlagFacts:
    """Return the flag of one parameter: positional without a default, an option with one, else as its marker says.

    The marker is ``typer.Option(...)`` or ``typer.Argument(...)``, as the default or in ``Annotated``.
    """
    argument, default = parameter
    flag = flag_of_parameter(parameter, scope)
    marker = default if isinstance(default, ast.Call) else None
    annotation: ast.AST | None = argument.annotation
    if isinstance(annotation, ast.Subscript) and dotted(annotation.value).endswith("Annotated"):
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation]
        marker = next((part for part in parts if isinstance(part, ast.Call)), marker)
        annotation = parts[0]
    flag.choices = choices.get(dotted(annotation), flag.choices)
    if flag.choices:
        flag.type = "str"
    flag.dynamic, flag.default_text = False, None
    word = last_name(marker)
    names: list[str] = []
    if marker is not None and word in ("Option", "Argument"):
        names = _read_marker(flag, marker, marker is default, scope)
    if word == "Argument" or (default is None and word != "Option"):
        flag.options, flag.nargs = [], "*" if flag.nargs else None
    elif flag.type == "bool":
        _set_boolean(flag, names)
    else:
        flag.options = names or flag.options
        if flag.nargs:
            flag.action, flag.nargs = "append", None
    return flag


def _set_boolean(flag: FlagFacts, names: list[str]) -> None:
    """Set the options ``--name`` and ``--no-name``; a single given name is an option without its opposite."""
    long = [name for name in names if name.startswith("--")] or flag.options
    flag.options = [part for name in long for part in name.split("/")]
    flag.action = "boolean_optional"
    if len(flag.options) == 1 and names:
        flag.action = "store_true"
    elif len(flag.options) == 1:
        flag.options.append("--no-" + flag.options[0][2:])


def _read_marker(flag: FlagFacts, marker: ast.Call, is_default: bool, scope: Scope) -> list[str]:
    """Set the default and the help of a marker. Return its option names.

    The first argument of a marker that ``is_default`` (and so not in ``Annotated``) is the default.
    """
    values = [scope.value_or(part, None) for part in marker.args]
    if is_default:
        first = values.pop(0) if values else None
        flag.required = first is Ellipsis
        flag.default = None if first is Ellipsis else first
    for name, node in keywords_of(marker).items():
        if name in ("help", "default"):
            value = scope.value_or(node, getattr(flag, name))
            setattr(flag, name, None if value is Ellipsis else value)
    return [value for value in values if isinstance(value, str) and value.startswith("-")]


def _enum_values(tree: ast.Module, scope: Scope) -> dict[str, list[str]]:
    """Return the values of each Enum class of the file."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Enum") for base in node.bases):
            values = [scope.value_or(item.value, None) for item in node.body if isinstance(item, ast.Assign)]
            found[node.name] = [str(value) for value in values if value is not None]
    return found


def read_fire(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """Add every parameter of ``fire.Fire(function)`` as an option ``--name``; flags of other components are unknown."""
    by_name = {function.name: function for function in functions_of(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("fire.Fire", "Fire"):
            function = by_name.get(dotted(node.args[0])) if node.args else None
            if function is None:
                facts.complete = False
                continue
            flags, accepts_any = flags_of_function(function, scope)
            for flag in flags:
                flag.options, flag.action, flag.nargs = ["--" + flag.name], "store", None
            facts.flags += flags
            facts.complete = facts.complete and not accepts_any
