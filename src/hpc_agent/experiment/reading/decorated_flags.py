"""click, typer and fire: flags from decorators and signatures."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, FlagType, Scope, Unknown, as_json, dotted
from hpc_agent.experiment.reading.signature_flags import Function, flags_of_function

_CLICK_TYPES: dict[str, FlagType] = {
    "int": "int", "INT": "int", "IntRange": "int", "float": "float", "FLOAT": "float", "FloatRange": "float", "str": "str",
    "bool": "bool", "BOOL": "bool", "Path": "path", "File": "path",
}  # fmt: skip


def functions(tree: ast.Module) -> Iterator[Function]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def read_click(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """Options and arguments of every command; with several commands their names are ``subcommands``."""
    for function in functions(tree):
        words = [dotted(_called(decorator)).rpartition(".")[2] for decorator in function.decorator_list]
        if "command" not in words and "group" not in words:
            continue
        if "command" in words and any(isinstance(_called(d), ast.Attribute) and dotted(_called(d)).split(".")[0] != "click"
                                      for d in function.decorator_list if dotted(_called(d)).endswith("command")):  # fmt: skip
            facts.subcommands.append(function.name.replace("_", "-"))
        for decorator in function.decorator_list:
            word = dotted(_called(decorator)).rpartition(".")[2]
            if isinstance(decorator, ast.Call) and word in ("option", "argument"):
                flag = _click_flag(decorator, scope, word == "argument")
                if flag is None:
                    facts.complete = False
                else:
                    facts.flags.append(flag)
            elif word not in ("command", "group", "option", "argument", "pass_context", "pass_obj", "version_option"):
                facts.complete = False  # a decorator of their own may add anything


def _called(decorator: ast.expr) -> ast.expr:
    return decorator.func if isinstance(decorator, ast.Call) else decorator


def _click_flag(node: ast.Call, scope: Scope, positional: bool) -> FlagFacts | None:
    given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    try:
        names = [str(scope.value(argument)) for argument in node.args]
    except Unknown:
        return None
    spelt = [part for name in names if name.startswith("-") for part in name.split("/")]
    plain = [name for name in names if not name.startswith("-")]
    long = [option for option in spelt if option.startswith("--")]
    name = plain[0] if plain else (long or spelt)[0].lstrip("-").replace("-", "_")
    facts = FlagFacts(name=name.lower(), options=spelt, required=positional)
    truth = {key: _true(given.get(key)) for key in ("is_flag", "multiple", "count", "required", "hidden")}
    facts.hidden = truth["hidden"]
    if any("/" in option for option in names):
        facts.action, facts.type, facts.default = "boolean_optional", "bool", False
    elif truth["is_flag"]:
        facts.action, facts.type, facts.default = "store_true", "bool", False
    elif truth["count"]:
        facts.action, facts.type = "count", "int"
    elif truth["multiple"]:
        facts.action = "append"
    _click_values(facts, given, scope)
    facts.required = (positional and "default" not in given and not _is_false(given.get("required"))) or truth[
        "required"
    ]
    return facts


def _click_values(facts: FlagFacts, given: dict[str, ast.expr], scope: Scope) -> None:
    kind = given.get("type")
    called = kind.func if isinstance(kind, ast.Call) else kind
    word = dotted(called).rpartition(".")[2] if called is not None else ""
    if word == "Choice" and isinstance(kind, ast.Call) and kind.args:
        try:
            facts.choices = as_json(list(scope.value(kind.args[0])))
        except (Unknown, TypeError):
            facts.dynamic = True
    elif word:
        facts.type = _CLICK_TYPES.get(word, facts.type)
    for name in ("default", "nargs", "help"):
        if name in given:
            try:
                value = as_json(scope.value(given[name]))
            except Unknown:
                continue
            if name == "nargs":
                facts.nargs = "*" if value == -1 else value
                facts.required = facts.required and value != -1
            else:
                setattr(facts, name, value if name == "default" else str(value))
    if not word and facts.action == "store" and "default" in given:
        kinds: dict[type, FlagType] = {bool: "bool", int: "int", float: "float"}
        facts.type = kinds.get(type(facts.default), facts.type)


def _true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def read_typer(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """``typer.run(f)`` and ``@app.command()``: the signature, with typer.Option and typer.Argument."""
    enums = _enums(tree, scope)
    for function in _typer_functions(tree, facts):
        plain, _ = flags_of_function(function, scope)
        arguments = [*function.args.args, *function.args.kwonlyargs]
        missing = len(function.args.args) - len(function.args.defaults)
        defaults = [*[None] * missing, *function.args.defaults, *function.args.kw_defaults]
        for flag, argument, default in zip(plain, arguments, defaults, strict=False):
            if not dotted(argument.annotation or ast.Constant(None)).endswith("Context"):
                facts.flags.append(_typer_flag(flag, argument, default, scope, enums))


def _typer_functions(tree: ast.Module, facts: ExecutorFacts) -> list[Function]:
    by_name = {function.name: function for function in functions(tree)}
    commands = [
        function
        for function in by_name.values()
        if any(dotted(_called(d)).endswith((".command", ".callback")) for d in function.decorator_list)
    ]
    named = [f for f in commands if any(dotted(_called(d)).endswith(".command") for d in f.decorator_list)]
    if len(named) > 1:
        facts.subcommands += [function.name.replace("_", "-") for function in named]
    run = [
        by_name[node.args[0].id]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) in ("typer.run", "run") and node.args
        and isinstance(node.args[0], ast.Name) and node.args[0].id in by_name
    ]  # fmt: skip
    return commands or run


def _typer_flag(
    flag: FlagFacts, argument: ast.arg, default: ast.expr | None, scope: Scope, enums: dict[str, list[str]]
) -> FlagFacts:
    """typer: no default is a positional argument, a default an option; Option and Argument say otherwise."""
    marker = default if isinstance(default, ast.Call) else None
    annotation = argument.annotation
    if (
        isinstance(annotation, ast.Subscript)
        and dotted(annotation.value).endswith("Annotated")
        and isinstance(annotation.slice, ast.Tuple)
    ):
        marker = next((part for part in annotation.slice.elts if isinstance(part, ast.Call)), marker)
        annotation = annotation.slice.elts[0]
    word = dotted(marker.func).rpartition(".")[2] if marker is not None else ""
    flag.choices = enums.get(dotted(annotation) if annotation is not None else "", flag.choices)
    if flag.choices:
        flag.type = "str"
    flag.dynamic, flag.default_text = False, None
    names: list[str] = []
    if marker is not None and word in ("Option", "Argument"):
        names = _typer_marker(flag, marker, default, scope)
    positional = word == "Argument" or (default is None and word != "Option")
    if positional:
        flag.options = []
        flag.nargs = "*" if flag.nargs else None
    elif flag.type == "bool":
        base = [n for n in names if n.startswith("--")] or flag.options
        flag.action = "boolean_optional"
        flag.options = [part for name in base for part in name.split("/")]
        if len(flag.options) == 1 and not names:
            flag.options.append("--no-" + flag.options[0][2:])
        elif len(flag.options) == 1:
            flag.action = "store_true"
    else:
        flag.options = names or flag.options
        if flag.nargs:
            flag.action, flag.nargs = "append", None
    return flag


def _typer_marker(flag: FlagFacts, marker: ast.Call, default: ast.expr | None, scope: Scope) -> list[str]:
    """Default, names and help of typer.Option(...); the first word is the default where it is not in Annotated."""
    values: list[object] = []
    for part in marker.args:
        try:
            values.append(scope.value(part))
        except Unknown:
            values.append(None)
    if marker is default:
        first = values.pop(0) if values else None
        flag.required = first is Ellipsis
        flag.default = None if first is Ellipsis else first
    for keyword in marker.keywords:
        if keyword.arg in ("help", "default"):
            try:
                value = scope.value(keyword.value)
            except Unknown:
                continue
            setattr(flag, keyword.arg, None if value is Ellipsis else value)
    return [str(value) for value in values if isinstance(value, str) and value.startswith("-")]


def _enums(tree: ast.Module, scope: Scope) -> dict[str, list[str]]:
    """Values of the Enum classes of the file."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith("Enum") for base in node.bases):
            values = []
            for item in node.body:
                if isinstance(item, ast.Assign):
                    try:
                        values.append(str(scope.value(item.value)))
                    except Unknown:
                        continue
            found[node.name] = values
    return found


def read_fire(tree: ast.Module, scope: Scope, facts: ExecutorFacts) -> None:
    """``fire.Fire(function)``: every parameter is an option ``--name``. Other components tell no flags."""
    by_name = {function.name: function for function in functions(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("fire.Fire", "Fire"):
            target = node.args[0] if node.args else None
            function = by_name.get(target.id) if isinstance(target, ast.Name) else None
            if function is None:
                facts.complete = False
                continue
            flags, anything = flags_of_function(function, scope)
            for flag in flags:
                flag.options, flag.action = ["--" + flag.name], "store"
                flag.nargs = None
            facts.flags += flags
            facts.complete = facts.complete and not anything
