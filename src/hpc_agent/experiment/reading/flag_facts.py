"""What is known of an executor without running it, and the values that source text tells."""

from __future__ import annotations

import ast
import json
from typing import Any, Literal

import msgspec

Action = Literal["store", "store_true", "store_false", "boolean_optional", "append", "count", "store_const"]
FlagType = Literal["str", "int", "float", "bool", "path", "json"]


class FlagFacts(msgspec.Struct, kw_only=True):
    """One flag: ``name`` is what its value is called, ``options`` how it is spelt (nothing for a positional one)."""

    name: str
    options: list[str] = []
    type: FlagType = "str"
    required: bool = False
    default: Any = None
    default_text: str | None = None
    choices: list[Any] | None = None
    nargs: int | str | None = None
    action: Action = "store"
    help: str = ""
    dynamic: bool = False
    hidden: bool = False


class ExecutorFacts(msgspec.Struct, kw_only=True):
    """A script that can be started. ``complete`` is false where its source does not tell all of its flags."""

    name: str
    path: str
    framework: Literal["argparse", "optparse", "click", "typer", "fire", "plain"]
    has_main_guard: bool
    doc: str = ""
    flags: list[FlagFacts] = []
    complete: bool = True
    subcommands: list[str] = []
    notes: list[str] = []


class RunFacts(msgspec.Struct, kw_only=True):
    """A function decorated with @register_run."""

    name: str
    function: str
    path: str
    module: str | None
    cell: int | None
    line: int
    gpu: bool
    doc: str
    run_signature_sha: str
    flags: list[FlagFacts]
    accepts_any: bool = False


class ReducerFacts(msgspec.Struct, kw_only=True):
    """A script or function that looks as if it reduced results; ``matches`` says why."""

    name: str
    path: str
    matches: list[str]
    docstring: str
    score: int


class Unknown(Exception):
    """The source does not tell this value."""


class Scope:
    """Constants of a module, for values that are written as names."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: dict[str, Any] = {}
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._learn(target.id, node.value)

    def _learn(self, name: str, node: ast.expr) -> None:
        try:
            self.names[name] = self.value(node)
        except Unknown:
            self.names.pop(name, None)

    def value(self, node: ast.AST | None) -> Any:
        """A literal, or what a few plain expressions of literals and module constants come to. Raises Unknown."""
        if node is None:
            raise Unknown
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return self._expression(node)

    def _expression(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id]
            raise Unknown
        if isinstance(node, ast.JoinedStr):
            return "".join(
                str(self.value(part.value if isinstance(part, ast.FormattedValue) else part)) for part in node.values
            )
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.value(node.operand)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Subscript):
            return self._item(self.value(node.value), self.value(node.slice))
        raise Unknown

    def _arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        try:
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if (
                isinstance(node.op, ast.Mult)
                and not isinstance(left, (str, list))
                and not isinstance(right, (str, list))
            ):
                return left * right
            if isinstance(node.op, ast.Pow) and abs(left) <= 1000 and abs(right) <= 64:
                return left**right
            if isinstance(node.op, ast.Mod) and isinstance(left, str):
                return left % (tuple(right) if isinstance(right, list) else right)
            if isinstance(node.op, ast.Div):
                return left / right
        except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise Unknown from error
        raise Unknown

    def _call(self, node: ast.Call) -> Any:
        """range, list, tuple, sorted and dict.keys() of what is known; text.format of text that is."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("range", "list", "tuple", "sorted", "set") and not node.keywords and len(node.args) <= 3:
            arguments = [self.value(argument) for argument in node.args]
            try:
                if name == "range":
                    return list(range(*arguments)[:1000])
                return (sorted if name == "sorted" else list)(*arguments)
            except (TypeError, ValueError) as error:
                raise Unknown from error
        if isinstance(node.func, ast.Attribute) and node.func.attr == "keys" and not node.args:
            keys = self.value(node.func.value)
            if isinstance(keys, dict):
                return list(keys)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            text = self.value(node.func.value)
            try:
                return text.format(
                    *(self.value(a) for a in node.args), **{k.arg or "": self.value(k.value) for k in node.keywords}
                )
            except (AttributeError, LookupError, ValueError, TypeError) as error:
                raise Unknown from error
        raise Unknown

    @staticmethod
    def _item(holder: Any, key: Any) -> Any:
        try:
            return holder[key]
        except (TypeError, LookupError) as error:
            raise Unknown from error


def as_json(value: Any) -> Any:
    """The value as JSON keeps it. Raises Unknown for one that it cannot."""
    if isinstance(value, (tuple, set, frozenset)):
        value = list(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Unknown from error


def text_of(node: ast.AST | None) -> str:
    return "" if node is None else " ".join(ast.unparse(node).split())[:200]


def first_line(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    lines = (ast.get_docstring(node) or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or an attribute; nothing for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""
