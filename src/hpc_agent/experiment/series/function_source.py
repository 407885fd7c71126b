"""The source of a function, and which of its names certainly mean a module, a builtin or a constant."""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.series.column_methods import READERS, READING_MODULES
from hpc_agent.experiment.series.rows_needed import Doubt
from hpc_agent.experiment_kit.notebooks import code_cells

Body = list[tuple[int | None, ast.Module]]


class Names:
    """Every binding of a file. A name that is bound twice anywhere in it means nothing certain."""

    def __init__(self, body: Body) -> None:
        self.imports: dict[str, str] = {}
        self.constants: dict[str, int] = {}
        self.unsure = False
        self._bound: Counter[str] = Counter()
        for _, tree in body:
            for node in ast.walk(tree):
                self._bind(node)
            for statement in tree.body:
                self._constant(statement)

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                self._import(node, alias)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._bound[node.id] += 1
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name):  # np.log = something else
                self._bound[root.id] += 1
        elif isinstance(node, ast.arg):
            self._bound[node.arg] += 1
        elif not isinstance(node, ast.alias) and isinstance(
            getattr(node, "name", None), str
        ):  # def, class, except ... as, match ... as
            self._bound[node.name] += 1  # type: ignore[attr-defined]
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self._bound.update(node.names)

    def _import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        self.unsure = self.unsure or alias.name == "*"
        name = alias.asname or alias.name.partition(".")[0]
        if isinstance(node, ast.ImportFrom):
            path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
        else:
            path = alias.name if alias.asname else name
        if self.imports.get(name) != path:  # the same import twice is one binding
            self._bound[name] += 1
        self.imports[name] = path

    def _constant(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Constant) and type(value.value) is int:
                self.constants[node.targets[0].id] = value.value

    def constant(self, name: str) -> int | None:
        return self.constants.get(name) if self._bound[name] == 1 and not self.unsure else None

    def path_of(self, node: ast.AST) -> str | None:
        """Return the dotted path of an imported name or a builtin (``builtins.max``), None when it is not certain."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self.unsure:
            return None
        name = node.id
        if name in self.imports and self._bound[name] == 1:
            return ".".join([self.imports[name], *attributes])
        if not self._bound[name] and hasattr(builtins, name):
            return ".".join(["builtins", name, *attributes])
        return None


@dataclass(frozen=True)
class Source:
    """A parsed file: its trees (by the notebook's cell; None for a file), lines and names."""

    body: Body
    lines: dict[int | None, list[str]]
    unread: list[str]
    names: Names

    def functions(self) -> dict[str, tuple[int | None, ast.FunctionDef]]:
        return {
            node.name: (cell, node)
            for cell, tree in self.body
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
        }

    def known(self) -> list[str]:
        return sorted(self.functions())

    def function(self, name: str) -> ast.FunctionDef | None:
        """Return the last function of that name, or of the name with ``_`` for ``-``."""
        found = self.functions()
        match = found.get(name) or found.get(name.replace("-", "_"))
        return match[1] if match else None

    def method(self, dotted: str) -> ast.FunctionDef | None:
        """Return the method of ``Class.method``, or the function of a plain name."""
        owner, _, name = dotted.rpartition(".")
        for _, tree in self.body:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name == owner:
                    return next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == name), None)
        return None if owner else self.function(name)

    def evidence(self, function: ast.FunctionDef, found: list[tuple[int, str]]) -> list[dict[str, Any]]:
        cell = self.functions()[function.name][0]
        lines = self.lines[cell]
        return [
            {"line": line, "text": lines[line - 1].strip() if 0 < line <= len(lines) else "", "shows": why}
            | ({} if cell is None else {"cell": cell})
            for line, why in found
        ]


def read_source(path: Path) -> Source:
    """Parse a .py or .ipynb file. Raises SpecInvalid when it cannot be read as Python."""
    unread: list[str] = []
    body: Body = []
    try:
        text = path.read_text(encoding="utf-8")
        cells: list[tuple[int | None, str]] = [*code_cells(text)] if path.suffix == ".ipynb" else [(None, text)]
        for number, source in cells:
            try:
                body.append((number, ast.parse(source)))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                if number is None:
                    raise ValueError(str(error)) from error
                unread.append(f"cell {number} is not Python: {error}")
    except (OSError, ValueError) as error:
        remedy = "Name a .py or .ipynb file: 'hpc-agent classify-axis-easy --source-path train.py --run-name train'."
        raise SpecInvalid(
            f"{path} cannot be read as Python: {error}", field="source_path", remediation=remedy
        ) from error
    return Source(body, {number: source.splitlines() for number, source in cells}, unread, Names(body))


def parameters(function: ast.FunctionDef, names: Names) -> tuple[str | None, set[str]]:
    """Return the parameter that is used as a series, if any, and the others, which are numbers.

    Raises Doubt when two are used as series.
    """
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    given = {argument.arg for argument in arguments}
    used = {name for node in ast.walk(function) for name in _used_as_series(node, names) if name in given}
    if len(used) > 1:
        raise Doubt(function, f"{' and '.join(sorted(used))} are used as series: only one can be split by its rows")
    series = next(iter(used), None)
    return series, given - used


def _used_as_series(node: ast.AST, names: Names) -> list[str]:
    found: list[ast.AST] = []
    if isinstance(node, ast.Attribute | ast.Subscript):
        found = [node.value]
    elif isinstance(node, ast.For | ast.comprehension):
        found = [node.iter]
    elif isinstance(node, ast.Call):
        path = names.path_of(node.func) or ""
        if path in ("builtins.len", "builtins.enumerate") or (path.startswith("numpy.") and path != "numpy.save"):
            found = list(node.args[:1])
    return [one.id for one in found if isinstance(one, ast.Name)]


def reads_whole_file(function: ast.AST, names: Names) -> Iterator[tuple[int, str]]:
    """Yield (line, sentence) for each call that reads a file by itself, which ``load_series`` does not slice."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        module, _, name = (names.path_of(node.func) or "").rpartition(".")
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes")
        known = name in READERS and (module.partition(".")[0] in READING_MODULES or module in ("builtins", "io"))
        if (known or method) and not _writes(node, name):
            sentence = f"{called} on line {node.lineno} reads the whole file in every chunk; use load_series"
            yield node.lineno, sentence


def _writes(call: ast.Call, name: str) -> bool:
    mode = call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "mode"), None)
    return name == "open" and isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x")
