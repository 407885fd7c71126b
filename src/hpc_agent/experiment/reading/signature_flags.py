"""A function's signature as flags, read from its source."""

from __future__ import annotations

import ast
import hashlib
import json
from typing import Any

import msgspec

from hpc_agent.experiment.reading.flag_facts import FlagFacts, FlagType, Scope, Unknown, as_json, dotted, text_of
from hpc_agent.experiment_kit.runs import option_of

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SIMPLE: dict[str, FlagType] = {
    "str": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "Path": "path",
    "PathLike": "path",
}
_LISTS = ("list", "List", "Sequence", "tuple", "Tuple", "Iterable")


def flags_of_function(function: Function, scope: Scope) -> tuple[list[FlagFacts], bool]:
    """A flag for each parameter that can be given by name, and whether any other name is taken too (``**kwargs``)."""
    arguments = function.args
    pairs = list(zip(arguments.args, _padded(arguments), strict=True))
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    flags = [_flag(argument, default, scope) for argument, default in pairs if argument.arg not in ("self", "cls")]
    return flags, arguments.kwarg is not None


def _padded(arguments: ast.arguments) -> list[ast.expr | None]:
    """A default, or None, for each ordinary parameter; those of positional-only ones are left out."""
    missing = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return ([None] * missing + list(arguments.defaults))[len(arguments.posonlyargs) :]


def _flag(argument: ast.arg, default: ast.expr | None, scope: Scope) -> FlagFacts:
    facts = FlagFacts(name=argument.arg, options=[option_of(argument.arg)], required=default is None)
    if default is not None:
        try:
            facts.default = as_json(scope.value(default))
        except Unknown:
            facts.default_text, facts.dynamic = text_of(default), True
    annotation = _unquoted(argument.annotation)
    if annotation is None:
        facts.type = _type_of_value(facts.default)
    else:
        _annotate(facts, annotation, scope)
    if facts.type == "bool" and facts.nargs is None:
        facts.action = "store_true" if facts.default is False else "boolean_optional"
    return facts


def _unquoted(node: ast.expr | None) -> ast.expr | None:
    """An annotation that is written as text, as what it says."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return None
    return node


def _annotate(facts: FlagFacts, node: ast.expr, scope: Scope) -> None:
    node = _without_none(node)
    name = dotted(node.value if isinstance(node, ast.Subscript) else node).rpartition(".")[2]
    if name in _SIMPLE:
        facts.type = _SIMPLE[name]
    elif name == "Annotated" and isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        _annotate(facts, node.slice.elts[0], scope)
    elif name == "Literal" and isinstance(node, ast.Subscript):
        values = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        try:
            facts.choices = [as_json(scope.value(value)) for value in values]
            facts.type = _type_of_value(facts.choices[0])
        except Unknown:
            facts.dynamic = True
    elif name in _LISTS:
        facts.nargs = "+"
        item = node.slice if isinstance(node, ast.Subscript) else None
        item = item.elts[0] if isinstance(item, ast.Tuple) and item.elts else item
        facts.type = _SIMPLE.get(dotted(item).rpartition(".")[2], "str") if item is not None else "str"
    else:
        facts.type = "json"


def _without_none(node: ast.expr) -> ast.expr:
    """``Optional[T]``, ``Union[T, None]`` and ``T | None`` as T; a union of several types stays."""
    options: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        options = [node.left, node.right]
    elif isinstance(node, ast.Subscript) and dotted(node.value).rpartition(".")[2] in ("Optional", "Union"):
        options = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    real = [option for option in options if not (isinstance(option, ast.Constant) and option.value is None)]
    return _without_none(real[0]) if len(real) == 1 else node


def _type_of_value(value: Any) -> FlagType:
    if isinstance(value, (dict, list)):
        return "json"
    kinds: dict[type, FlagType] = {bool: "bool", int: "int", float: "float"}
    return kinds.get(type(value), "str")


def signature_sha(flags: list[FlagFacts]) -> str:
    """SHA-256 over the flags as canonical JSON; their order counts."""
    return hashlib.sha256(json.dumps(msgspec.to_builtins(flags), sort_keys=True).encode()).hexdigest()
