"""A notebook as the text of a module: cells in order, markdown as comments, magics and shell lines left out."""

from __future__ import annotations
import __future__

import ast
import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment_kit.notebooks import SKIP_TAG, code_cells

_MARKER = re.compile(r"^# %% cell (\d+)$")


@dataclass(frozen=True)
class Notebook:
    """Which notebook a problem is in; ``name`` is its path in the repo."""

    name: str

    def problem(self, what: str, cell: int | None = None, line: int | None = None) -> SpecInvalid:
        place = "".join(f", {word} {n}" for word, n in (("cell", cell), ("line", line)) if n is not None)
        return SpecInvalid(
            f"{self.name}{place}: {what}",
            field="experiment_dir",
            remediation=(
                f"Correct {self.name} (or tag the cell {SKIP_TAG!r}), then run 'hpc-agent export-package' again: "
                "nothing was written."
            ),
            details={"notebook": self.name, "cell": cell, "line": line},
        )


def module_source(name: str, content: bytes) -> str:
    """The module's text; ``# %% cell N`` counts all cells from 0, as the errors do; lines of a cell count from 1, here and
    below that mark alike.

    Raises SpecInvalid for what is no notebook and for Python that does not compile, naming notebook, cell and line.
    """
    notebook = Notebook(name)
    text = _decoded(notebook, content)
    futures: set[str] = set()
    blocks = {number: _comment(number, cell) for number, cell in _markdown(notebook, text)}
    for number, source in code_cells(text):
        blocks[number] = f"# %% cell {number}\n" + _code(notebook, number, source, futures)
    shown = re.sub(r"[^\w ./()+-]", "?", name)
    head = [f'"""Made from {shown} by hpc-agent export-package: edit the notebook, not this file."""\n']
    head += [f"from __future__ import {', '.join(sorted(futures))}\n"] if futures else []
    module = "\n".join([*head, *(blocks[number].rstrip() + "\n" for number in sorted(blocks))])
    _check_whole(notebook, module)
    return module


def _decoded(notebook: Notebook, content: bytes) -> str:
    """The JSON text. Raises SpecInvalid unless every cell is such as ``code_cells`` may be given."""
    try:
        text = content.decode("utf-8-sig")
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise notebook.problem(f"is not JSON: {error.msg}", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise notebook.problem(f"is not JSON: {error}") from error
    cells = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(cells, list):
        raise notebook.problem("is not a notebook: it has no list of cells (nbformat 4)")
    language = _dict(_dict(document.get("metadata")).get("language_info")).get("name", "python")
    if language not in ("python", "ipython"):
        raise notebook.problem(f"is written in {language}, not in Python")
    for number, cell in enumerate(cells):
        if not _is_cell(cell):
            raise notebook.problem("is not a cell of nbformat 4", cell=number)
    return text


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata", {}), dict):
        return False
    source = cell.get("source", "")
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def _markdown(notebook: Notebook, text: str) -> list[tuple[int, str]]:
    cells = enumerate(json.loads(text)["cells"])
    shown = [(n, c) for n, c in cells if c.get("cell_type") == "markdown" and SKIP_TAG not in _tags(c)]
    found = [(number, "".join(cell.get("source", ""))) for number, cell in shown]
    for number, source in found:
        if re.search("[\0\ud800-\udfff]", source):
            raise notebook.problem("holds a NUL or half of a surrogate pair, which no source file can", cell=number)
    return found


def _tags(cell: dict[str, Any]) -> list[str]:
    tags = cell.get("metadata", {}).get("tags")
    return tags if isinstance(tags, list) else []


def _comment(number: int, markdown: str) -> str:
    lines = [f"# {line}".rstrip() for line in markdown.splitlines()]
    return "\n".join([f"# %% cell {number} [markdown]", *lines])


def _code(notebook: Notebook, number: int, source: str, futures: set[str]) -> str:
    """The cell's code without its ``from __future__`` imports, whose names are added to ``futures``."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and _is_future(node)]
            rest = _without(source, found)
            compile(rest, notebook.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise notebook.problem(error.msg, number, error.lineno) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise notebook.problem(str(error) or "is nested too deeply", number) from error
    for node in found:
        futures.update(_features(notebook, number, node))
    return rest


def _is_future(node: ast.ImportFrom) -> bool:
    return node.module == "__future__" and node.level == 0


def _features(notebook: Notebook, number: int, node: ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names]
    unknown = [name for name in names if name not in __future__.all_feature_names]
    if unknown or any(alias.asname for alias in node.names):
        raise notebook.problem(
            f"__future__ has no {unknown[0]}" if unknown else "renames a feature", number, node.lineno
        )
    return names


def _without(source: str, nodes: list[ast.ImportFrom]) -> str:
    """The source without these statements: a line of its own becomes empty, one among others ``pass``."""
    lines = [line.encode() for line in source.split("\n")]  # columns count bytes
    for node in reversed(nodes):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        alone = not before.strip() and not after.partition(b"#")[0].strip()
        lines[first : last + 1] = [b"" if alone else before + b"pass" + after, *[b""] * (last - first)]
    return b"\n".join(lines).decode()


def _check_whole(notebook: Notebook, module: str) -> None:
    """Cells that compile one by one may not do so together, such as a ``global`` for a name that an earlier one uses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(module, notebook.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        above = enumerate(module.split("\n")[: error.lineno], start=1)
        marks = [(line, int(found[1])) for line, text in above if (found := _MARKER.match(text))]
        line, number = marks[-1] if marks else (0, None)
        raise notebook.problem(error.msg, number, (error.lineno or 0) - line) from error
