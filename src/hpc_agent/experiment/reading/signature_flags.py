"""A function's signature as flags, read from its source."""

from __future__ import annotations

import ast
import hashlib
import json

import msgspec

from hpc_agent.experiment.reading.flag_facts import FlagFacts, FlagType, type_of_value
from hpc_agent.experiment.reading.syntax import Function, Scope, Unknown, last_name, source_of
from hpc_agent.experiment_kit.registered_functions import option_of

_SIMPLE: dict[str, FlagType] = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "Path": "path", "PathLike": "path",
}  # fmt: skip
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
