"""Readers of syntax trees: values of constant expressions, dotted names, decorators, functions, imports."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
MOST_ITEMS = 1000


class Unknown(Exception):
    """The value of an expression cannot be read from the source."""


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Div: operator.truediv,
    ast.Mult: operator.mul, ast.Pow: operator.pow, ast.Mod: operator.mod,
}  # fmt: skip
_CALLS: dict[str, Callable[..., list[Any]]] = {
    "range": lambda *bounds: list(range(*bounds)[:MOST_ITEMS]), "list": list, "tuple": list, "set": list, "sorted": sorted,
}  # fmt: skip


def _calculated(kind: type[ast.operator], left: Any, right: Any) -> Any:
    """Return ``left`` and ``right`` combined. Raises Unknown for a repeated list or text, and for a huge power."""
    repeats = kind is ast.Mult and (isinstance(left, (str, list)) or isinstance(right, (str, list)))
    is_huge = kind is ast.Pow and (abs(left) > 1000 or abs(right) > 64)
    if repeats or is_huge or (kind is ast.Mod and not isinstance(left, str)):
        raise Unknown
    return _OPERATORS[kind](left, tuple(right) if kind is ast.Mod and isinstance(right, list) else right)


class Scope:
    """Constants of a module, for values that are written as names; ``known`` are those that it has from elsewhere."""

    def __init__(self, tree: ast.Module, known: Mapping[str, Any] | None = None) -> None:
        self.names: dict[str, Any] = dict(known or {})
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                try:
                    self.names.update(dict.fromkeys(names, self.value(node.value)))
                except Unknown:
                    for name in names:
                        self.names.pop(name, None)

    def value(self, node: ast.AST | None) -> Any:
        """Return the value of a literal, or of a plain expression of literals and module constants. Raises Unknown."""
        if node is None:
            raise Unknown
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
        try:
            return self._expression(node)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise Unknown from error

    def value_or(self, node: ast.AST | None, otherwise: Any) -> Any:
        """Return the value of an expression, or ``otherwise`` when the value cannot be read."""
        try:
            return self.value(node)
        except Unknown:
            return otherwise

    def _expression(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            return self.names[node.id]
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
            return "".join(str(self.value(part)) for part in parts)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.BinOp):
            return _calculated(type(node.op), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.value(node.operand)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Subscript):
            return self.value(node.value)[self.value(node.slice)]
        raise Unknown

    def _call(self, node: ast.Call) -> Any:
        """Return the result of range, list, tuple, set, sorted, ``dict.keys()`` or ``text.format()`` of known values."""
        given = [self.value(argument) for argument in node.args]
        named = {keyword.arg or "": self.value(keyword.value) for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and not named and len(given) <= 3:
            return _CALLS[node.func.id](*given)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "format"):
            owner = self.value(node.func.value)
            return owner.format(*given, **named) if node.func.attr == "format" else list(owner.keys(*given))
        raise Unknown


def as_json(value: Any) -> Any:
    """Return the value in JSON's types. Raises Unknown for a value that JSON cannot hold."""
    if isinstance(value, (tuple, set, frozenset)):
        value = list(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Unknown from error


def is_guard(node: ast.AST) -> bool:
    """Return True for ``if __name__ == "__main__":``."""
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def first_line(node: ast.Module | Function | ast.ClassDef) -> str:
    """Return the first line of a docstring."""
    return (ast.get_docstring(node) or "").strip().partition("\n")[0].strip()


def dotted(node: ast.AST | None) -> str:
    """Return ``a.b.c`` for a name or an attribute, and an empty text for any other expression."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return node.id if isinstance(node, ast.Name) else ""


def last_name(node: ast.AST | None) -> str:
    """Return ``c`` for ``a.b.c`` and for a call of ``a.b.c``."""
    return dotted(called(node)).rpartition(".")[2]


def called(node: ast.AST | None) -> ast.AST | None:
    """Return the function of a call; any other expression as it is, such as a decorator without arguments."""
    return node.func if isinstance(node, ast.Call) else node


def keywords_of(node: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}


def functions_of(tree: ast.Module) -> list[Function]:
    """Return the functions at the top level of a module."""
    return [node for node in tree.body if isinstance(node, Function)]


def defined_in(tree: ast.Module) -> set[str]:
    """Return the names of functions, classes and variables that a module sets, at any level."""
    nodes = list(ast.walk(tree))
    named = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    return named | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def imports_of(tree: ast.Module) -> dict[str, str]:
    """Return the full name that each imported local name stands for; ``from a import *`` as ``a.*``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = "." * node.level + (f"{node.module}." if node.module else "") + alias.name
                found[full if alias.name == "*" else alias.asname or alias.name] = full
    return found


def module_paths(module: str) -> tuple[str, ...]:
    """Return the files in which Python looks for a module, relative to a folder of its path."""
    path = "/".join(part for part in module.split(".") if part)
    return (f"{path}.py", f"{path}/__init__.py") if path else ()
