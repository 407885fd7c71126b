"""The source of a function, and which of its names certainly mean a module, a builtin or a constant."""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.series.column_methods import READERS, READING_MODULES
from hpc_agent.experiment_kit.notebooks import code_cells
from hpc_agent.state.user_files import read_user_file

SERIES_FUNCTIONS = ("numpy.", "builtins.len")  # their first argument is a series


class Doubt(Exception):
    """A line of the source that no rule covers."""

    def __init__(self, node: ast.AST | int, why: str) -> None:
        super().__init__(why)
        self.line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        self.why = why


class Stateful(Doubt):
    """A line that carries a state from row to row."""


class Names:
    """The meaning of each name of a file. A name that is bound in two ways anywhere in the file means nothing certain."""

    def __init__(self, trees: list[ast.Module]) -> None:
        self._meanings: defaultdict[str, set[object]] = defaultdict(set)
        for name, meaning in (pair for tree in trees for pair in _bindings(tree)):
            self._meanings[name].add(meaning)

    def meaning(self, name: str) -> object:
        """Return a constant's number, an import's path, ``builtins.max`` for a builtin, None when nothing is certain."""
        builtin = {f"builtins.{name}"} if hasattr(builtins, name) else set()
        found = self._meanings.get(name, builtin)
        return next(iter(found)) if len(found) == 1 and "*" not in self._meanings else None

    def path_of(self, node: ast.AST) -> str | None:
        """Return the dotted path of an imported name or a builtin, None when it is not certain."""
        text = ast.unparse(node)
        name, *attributes = text.split(".")
        meaning = self.meaning(name)
        return ".".join([meaning, *attributes]) if isinstance(meaning, str) and re.fullmatch(r"[\w.]+", text) else None


def _bindings(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Yield each name that is bound with what it means: the path of an import, a number, or else a node of its own."""
    constants: dict[ast.expr, int] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(imported) | ast.ImportFrom(names=imported):
                module = f"{'.' * node.level}{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
                for alias in imported:
                    name = alias.asname or alias.name.partition(".")[0]
                    yield name, module + (alias.name if alias.asname else name)
            case ast.Assign([ast.Name() as target], ast.Constant(value)) if type(value) is int:
                constants[target] = value
            case ast.Name(name, ast.Store() | ast.Del()):
                yield name, constants.get(node, node)
            case ast.Attribute(ctx=ast.Store() | ast.Del()):  # np.log = something else
                yield from ((one.id, node) for one in ast.walk(node) if isinstance(one, ast.Name))
            case ast.Global(names) | ast.Nonlocal(names):
                yield from ((name, node) for name in names)
            case ast.arg(name) | ast.MatchMapping(rest=str(name)):
                yield name, node
            case _ if not isinstance(node, ast.alias):  # def, class, except ... as, match ... as
                yield str(getattr(node, "name", "")), node


@dataclass(frozen=True)
class Source:
    """A parsed file: its functions and ``Class.method`` with the notebook's cell (None for a file), lines and names."""

    functions: dict[str, tuple[int | None, ast.FunctionDef]]
    lines: dict[int | None, list[str]]
    unread: list[str]
    names: Names

    def known(self) -> list[str]:
        return sorted(name for name in self.functions if "." not in name)

    def function(self, name: str) -> ast.FunctionDef | None:
        """Return the last function or method of that name, or of the name with ``_`` for ``-``."""
        found = self.functions.get(name) or self.functions.get(name.replace("-", "_"))
        return found and found[1]

    def evidence(self, function: ast.FunctionDef, found: list[tuple[int, str]]) -> list[dict[str, Any]]:
        cell = self.functions[function.name][0]
        lines = self.lines[cell]
        return [
            {"line": line, "text": lines[line - 1].strip() if 0 < line <= len(lines) else "", "shows": why}
            | ({} if cell is None else {"cell": cell})
            for line, why in found
        ]


def read_source(path: Path) -> Source:
    """Parse a .py or .ipynb file. Raises SpecInvalid when it cannot be read as Python."""
    unread: list[str] = []
    trees: dict[int | None, ast.Module] = {}
    try:
        text = read_user_file(path).decode()
        cells: list[tuple[int | None, str]] = [*code_cells(text)] if path.suffix == ".ipynb" else [(None, text)]
        for number, source in cells:
            try:
                trees[number] = ast.parse(source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                if number is None:
                    raise ValueError(str(error)) from error
                unread.append(f"cell {number} is not Python: {error}")
    except (OSError, ValueError) as error:
        remedy = "Name a .py or .ipynb file: 'hpc-agent classify-axis-easy --source-path train.py --run-name train'."
        raise SpecInvalid(
            f"{path} cannot be read as Python: {error}", field="source_path", remediation=remedy
        ) from error
    functions = {name: (number, node) for number, tree in trees.items() for name, node in _functions(tree)}
    lines = {number: source.splitlines() for number, source in cells}
    return Source(functions, lines, unread, Names([*trees.values()]))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    classes = [(f"{node.name}.", node.body) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for prefix, body in [("", tree.body), *classes]:
        yield from ((prefix + node.name, node) for node in body if isinstance(node, ast.FunctionDef))


def parameters(function: ast.FunctionDef, names: Names) -> tuple[set[str], set[str]]:
    """Return the parameters that are used as series, and the others, which are numbers."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    given = {argument.arg for argument in arguments}
    used = set()
    for node in ast.walk(function):
        match node:
            case (
                ast.Attribute(ast.Name(name))
                | ast.Subscript(ast.Name(name))
                | ast.For(iter=ast.Name(name))
                | ast.comprehension(iter=ast.Name(name))
            ):
                used.add(name)
            case ast.Call(called, [ast.Name(name), *_]) if (names.path_of(called) or "").startswith(SERIES_FUNCTIONS):
                used.add(name)
    return given & used, given - used


def reads_whole_file(function: ast.AST, names: Names) -> Iterator[tuple[int, str]]:
    """Yield (line, sentence) for each call that reads a file by itself, which ``load_series`` does not slice."""
    for node in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        called = ast.unparse(node.func)
        module, _, name = (names.path_of(node.func) or "").rpartition(".")
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes")
        modes = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        writes = name == "open" and ast.unparse(modes[0])[1:2] in ("w", "a", "x") if modes else False
        if (method or (name in READERS and module.partition(".")[0] in READING_MODULES)) and not writes:
            sentence = f"{called} on line {node.lineno} reads the whole file in every chunk; use load_series"
            yield node.lineno, sentence
