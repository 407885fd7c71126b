"""Flags from signatures and decorators: plain functions, click, typer and fire."""

from __future__ import annotations

import ast
import hashlib
import json

import msgspec

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import TYPES, ExecutorFacts, FlagFacts, SubcommandFacts, type_of_value
from hpc_agent.experiment.reading.modules import Found, Module, lineage
from hpc_agent.experiment_kit.registered_functions import option_of

_LISTS = ("list", "List", "Sequence", "tuple", "Tuple", "Iterable")
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
        facts.infer_type()
    else:
        _set_type(facts, annotation, scope)
    if facts.type == "bool" and facts.nargs is None:
        facts.action = "store_true" if facts.default is False else "boolean_optional"
    return facts


def _set_type(facts: FlagFacts, node: ast.expr, scope: syntax.Scope) -> None:
    """Set the type, choices and nargs that an annotation names."""
    node = without_none(node)
    inner = inner_types(node)
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


def inner_types(node: ast.expr) -> list[ast.expr]:
    """Return ``A`` and ``B`` for ``Outer[A, B]``."""
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def without_none(node: ast.expr) -> ast.expr:
    """Return T for ``Optional[T]``, ``Union[T, None]`` and ``T | None``; a union of several types as it is."""
    options: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        options = [node.left, node.right]
    elif isinstance(node, ast.Subscript) and syntax.last_name(node.value) in ("Optional", "Union"):
        options = inner_types(node)
    real = [option for option in options if not (isinstance(option, ast.Constant) and option.value is None)]
    return without_none(real[0]) if len(real) == 1 else node


def signature_sha(flags: list[FlagFacts]) -> str:
    """Return the SHA-256 of the flags as canonical JSON; their order counts."""
    # Without the fields of later versions: the hashes of earlier ones stay.
    later = ("inferred", "any_case")
    rows = [{name: value for name, value in msgspec.to_builtins(flag).items() if name not in later} for flag in flags]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def read_typer(module: Module, facts: ExecutorFacts) -> None:
    """Add the parameters of the functions behind ``typer.run(f)`` and ``@app.command()``; of several, as subcommands."""
    facts.spelling = "--{name}"
    functions = [node for node in module.definitions.values() if isinstance(node, syntax.Function)]
    commands = [(node, found) for node in functions if (found := _typer_decorator(node, "command"))]
    callbacks = [node for node in functions if _typer_decorator(node, "callback")]
    calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
    if any(syntax.last_name(call) == "add_typer" for call in calls):
        facts.doubt("the commands of an app that add_typer adds are not listed")
    for callback in callbacks:
        facts.flags += _typer_flags(callback, module)
    if len(commands) > 1 or (commands and callbacks):
        facts.subcommand_name, facts.subcommand_required = "command", not callbacks
        for function, decorator in commands:
            given = [*decorator.args[:1], syntax.keywords_of(decorator).get("name")]
            names = [name for part in given if isinstance(name := module.scope.value_or(part, None), str)]
            name = names[0] if names else function.name.lower().replace("_", "-")
            flags, doc = _typer_flags(function, module), syntax.first_line(function)
            facts.subcommands.append(SubcommandFacts(name=name, doc=doc, flags=flags))
        return
    run = [call.args[0] for call in calls if module.full_name(call) == "typer.run" and call.args]
    started = [Found(node, module) for node, _ in commands]
    target = started[0] if started else module.find(syntax.dotted(run[0])) if run else None
    if target is not None and isinstance(target.node, syntax.Function):
        facts.flags += _typer_flags(target.node, target.module)
    elif not callbacks:
        facts.doubt("the source does not show which function is started")


def _typer_decorator(function: syntax.Function, word: str) -> ast.Call | None:
    found = (node for node in function.decorator_list if isinstance(node, ast.Call))
    return next((node for node in found if syntax.last_name(node) == word), None)


def _typer_flags(function: syntax.Function, module: Module) -> list[FlagFacts]:
    choices = {}
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and any(syntax.dotted(base).endswith("Enum") for base in node.bases):
            values = [module.scope.value_or(item.value, None) for item in node.body if isinstance(item, ast.Assign)]
            choices[node.name] = [str(value) for value in values if value is not None]
    wanted = (one for one in parameters_of(function) if not syntax.dotted(one[0].annotation).endswith("Context"))
    return [_typer_flag(parameter, module.scope, choices) for parameter in wanted]


def _typer_flag(parameter: Parameter, scope: syntax.Scope, choices: dict[str, list[str]]) -> FlagFacts:
    """Return a flag: positional without a default, an option with one, else as ``Option(...)`` or ``Argument(...)`` says."""
    argument, default = parameter
    flag = flag_of_parameter(parameter, scope)
    flag.inferred = False  # typer itself takes the type of the default
    marker, annotation = default, argument.annotation
    if isinstance(annotation, ast.Subscript) and syntax.dotted(annotation.value).endswith("Annotated"):
        annotation, *extras = inner_types(annotation)
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
    flag.any_case = scope.value_or(syntax.keywords_of(marker).get("case_sensitive"), True) is False
    for name, node in syntax.keywords_of(marker).items():
        if name in ("help", "default"):
            value = scope.value_or(node, getattr(flag, name))
            setattr(flag, name, None if value is Ellipsis else value)
            flag.required |= value is Ellipsis
    return [value for value in values if isinstance(value, str) and value.startswith("-")]


def read_fire(module: Module, facts: ExecutorFacts) -> None:
    """Add the parameters of ``fire.Fire(function)`` as options ``--name``, and the functions of a dict as subcommands."""
    facts.spelling = "--{name}"
    for call in (call for call in module.started if call.name in ("fire.Fire", "fire.core.Fire")):
        given = [*call.node.args, *(v for k, v in syntax.keywords_of(call.node).items() if k == "component")]
        component = given[0] if given else None
        owner = call.module.find(syntax.dotted(component))
        if isinstance(component, ast.Dict):
            names = [call.module.scope.value_or(key, None) for key in component.keys]
            commands = dict(zip(names, component.values, strict=True))
        elif component is None:
            functions = [node for node in call.module.tree.body if isinstance(node, syntax.Function)]
            commands = {node.name: ast.Name(node.name) for node in functions}
        elif owner is not None and isinstance(owner.node, ast.ClassDef):
            _add_fire_class(owner, facts)
            continue
        else:
            facts.flags += _fire_flags(call.module.find(syntax.dotted(component)), ast.unparse(component), facts)
            continue
        facts.subcommand_name, facts.subcommand_required = "command", True
        for name, value in commands.items():
            flags = _fire_flags(call.module.find(syntax.dotted(value)), ast.unparse(value), facts)
            facts.subcommands += [SubcommandFacts(name=name, flags=flags)] if isinstance(name, str) else []
        if component is None or not all(isinstance(name, str) for name in commands):
            facts.doubt("fire.Fire() takes other names of the module or of a dict, which are not listed")


def _add_fire_class(owner: Found, facts: ExecutorFacts) -> None:
    """Add the parameters of a class as flags, and its methods as subcommands."""
    facts.subcommand_name, facts.subcommand_required = "command", True
    classes = lineage(owner)
    methods = {
        n.name: Found(n, one.module)
        for one in reversed(classes)
        for n in one.node.body
        if isinstance(n, syntax.Function)
    }
    if "__init__" in methods:
        facts.flags += _fire_flags(methods["__init__"], owner.node.name, facts)
    for name, method in methods.items():
        if not name.startswith("_"):
            doc = syntax.first_line(method.node)
            facts.subcommands.append(SubcommandFacts(name=name, doc=doc, flags=_fire_flags(method, name, facts)))


def _fire_flags(found: Found | None, shown: str, facts: ExecutorFacts) -> list[FlagFacts]:
    if found is None or not isinstance(found.node, syntax.Function):
        facts.doubt(f"the flags of fire's {shown} are not listed")
        return []
    flags, accepts_any = flags_of_function(found.node, found.module.scope)
    if accepts_any:
        facts.doubt(f"{found.node.name}() takes any parameter")
    for flag in flags:
        flag.options, flag.nargs = ["--" + flag.name], None
        flag.action = "store_bool" if flag.type == "bool" else "store"
    return flags
