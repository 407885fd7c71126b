"""A notebook as the text of a module: cells in order, markdown as comments, magics and shell lines left out."""

from __future__ import annotations
import __future__

import ast
import json
import re
import warnings
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment_kit.notebooks import SKIP_TAG, code_cells

_MARKER = re.compile(r"^# %% cell (\d+)$")


def module_source(name: str, content: bytes) -> str:
    """Return the text of the module.

    ``# %% cell N`` counts all cells from 0, as the errors do; the lines of a cell count from 1, below the mark too.
    Raises SpecInvalid, with notebook, cell and line, for a file that is no notebook and for Python that does not compile.
    """
    futures: set[str] = set()
    blocks = {}
    for number, cell in enumerate(_checked_cells(name, content)):
        tags = cell.get("metadata", {}).get("tags")
        if cell.get("cell_type") == "markdown" and not (isinstance(tags, list) and SKIP_TAG in tags):
            markdown = "".join(cell.get("source", ""))
            if re.search("[\0\ud800-\udfff]", markdown):
                raise _problem(name, "holds a NUL or half of a surrogate pair, which no source file can", number)
            lines = [f"# {line}".rstrip() for line in markdown.splitlines()]
            blocks[number] = "\n".join([f"# %% cell {number} [markdown]", *lines])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, source in code_cells(content.decode("utf-8-sig", "replace")):
            blocks[number] = f"# %% cell {number}\n" + _code(name, number, source, futures)
        shown = re.sub(r"[^\w ./()+-]", "?", name)
        head = [f'"""Made from {shown} by hpc-agent export-package: edit the notebook, not this file."""\n']
        head += [f"from __future__ import {', '.join(sorted(futures))}\n"] if futures else []
        module = "\n".join([*head, *(blocks[number].rstrip() + "\n" for number in sorted(blocks))])
        try:
            compile(module, name, "exec", dont_inherit=True)
        except SyntaxError as error:  # cells that compile alone may fail together, such as a late ``global``
            above = enumerate(module.split("\n")[: error.lineno], start=1)
            marks = [(line, int(found[1])) for line, text in above if (found := _MARKER.match(text))]
            line, cell_number = marks[-1] if marks else (0, None)
            raise _problem(name, error.msg, cell_number, (error.lineno or 0) - line) from error
    return module


def _checked_cells(name: str, content: bytes) -> list[dict[str, Any]]:
    """Return every cell. Raises SpecInvalid unless each has the shape that ``code_cells`` needs."""
    try:
        document = _dict(json.loads(content.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        raise _problem(name, f"is not JSON: {error.msg}", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise _problem(name, f"is not JSON: {error}") from error
    cells = document.get("cells")
    if not isinstance(cells, list):
        raise _problem(name, "is not a notebook: it has no list of cells (nbformat 4)")
    language = _dict(_dict(document.get("metadata")).get("language_info")).get("name", "python")
    if language not in ("python", "ipython"):
        raise _problem(name, f"is written in {language}, not in Python")
    for number, cell in enumerate(cells):
        source = _dict(cell).get("source", "")
        fits = isinstance(cell, dict) and isinstance(cell.get("metadata", {}), dict)
        if not fits or not all(isinstance(line, str) for line in (source if isinstance(source, list) else [source])):
            raise _problem(name, "is not a cell of nbformat 4", cell=number)
    return cells


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _code(name: str, number: int, source: str, futures: set[str]) -> str:
    """Return the cell's code without its ``from __future__`` imports, and add their names to ``futures``."""
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
        found = [node for node in imports if node.module == "__future__" and node.level == 0]
        rest = _without(source, found)
        compile(rest, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _problem(name, error.msg, number, error.lineno) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise _problem(name, str(error) or "is nested too deeply", number) from error
    for node in found:
        unknown = [alias.name for alias in node.names if alias.name not in __future__.all_feature_names]
        if unknown or any(alias.asname for alias in node.names):
            message = f"__future__ has no {unknown[0]}" if unknown else "renames a feature"
            raise _problem(name, message, number, node.lineno)
        futures.update(alias.name for alias in node.names)
    return rest


def _without(source: str, nodes: list[ast.ImportFrom]) -> str:
    """Return the source without these statements: a whole line becomes empty, a part of a line becomes ``pass``."""
    lines = [line.encode() for line in source.split("\n")]  # columns count bytes
    for node in reversed(nodes):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        alone = not before.strip() and not after.partition(b"#")[0].strip()
        lines[first : last + 1] = [b"" if alone else before + b"pass" + after, *[b""] * (last - first)]
    return b"\n".join(lines).decode()


def _problem(name: str, message: str, cell: int | None = None, line: int | None = None) -> SpecInvalid:
    place = "".join(f", {word} {n}" for word, n in (("cell", cell), ("line", line)) if n is not None)
    remedy = f"Correct {name} (or tag the cell {SKIP_TAG!r}), then run 'hpc-agent export-package' again: "
    remedy += "nothing was written."
    details = {"notebook": name, "cell": cell, "line": line}
    return SpecInvalid(f"{name}{place}: {message}", field="experiment_dir", remediation=remedy, details=details)
