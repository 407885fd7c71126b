"""The Python source of a notebook's cells, without magics and shell lines; each line keeps its number in the cell."""

import json
import re
from typing import Any, Dict, List, Tuple

# Cell magics whose body is Python in the notebook's session; a cell with another one (%%bash, %%html) is left out.
PYTHON_CELLS = ("time", "timeit", "capture", "prun", "memit", "mprun")
SKIP_TAG = "hpc-skip"
_ASSIGNED = re.compile(r"^(\s*)([\w.,\s\[\]'\"]+?)\s*=\s*[!%]")
_TRAILING_HELP = re.compile(r"^[\w.]+\?{1,2}$")

Cell = Tuple[int, str]
# The open triple quote, the number of open brackets, and True when a backslash continues the line.
Within = Tuple[str, int, bool]


def code_cells(text: str) -> List[Cell]:
    """Return number and Python source of each code cell without the tag ``hpc-skip``.

    Raises ValueError when the text is no notebook.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise ValueError("it has no list of cells")
    found = []
    for number, cell in enumerate(document["cells"]):
        if isinstance(cell, dict) and cell.get("cell_type") == "code" and SKIP_TAG not in _tags(cell):
            found.append((number, python_of(_source(cell))))
    return found


def python_of(source: str) -> str:
    """Return the Python of a cell. A magic or shell line becomes an empty line, ``pass`` or ``name = None``."""
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("%%"):
        if first[2:].split(" ")[0].strip() not in PYTHON_CELLS:
            return "\n" * (len(lines) - 1)
        lines[lines.index(first)] = ""
    kept: List[str] = []
    within: Within = ("", 0, False)
    for line in lines:
        begins = within == ("", 0, False)
        plain = _plain(line) if begins else line
        kept.append(plain)
        within = _after(plain, within)
    return "\n".join(kept)


def _plain(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    word = line.strip()
    if word.startswith(("%", "!", "?")) or _TRAILING_HELP.match(word):
        return indent + "pass" if indent else ""
    assigned = _ASSIGNED.match(line)
    return "%s%s = None" % (assigned.group(1), assigned.group(2)) if assigned else line


def _after(line: str, within: Within) -> Within:
    """Return the state after a line: a line inside of a text, brackets or a statement is no magic."""
    block, depth, _ = within
    position = 0
    while position < len(line):
        if block:
            end = line.find(block, position)
            if end < 0:
                return block, depth, False
            position, block = end + 3, ""
            continue
        mark = line[position]
        if mark == "#":
            break
        if line.startswith(('"""', "'''"), position):
            block = line[position : position + 3]
            position += 3
        elif mark in "\"'":
            end = position + 1
            while end < len(line) and line[end] != mark:
                end += 2 if line[end] == "\\" else 1
            position = end + 1
        else:
            depth += (mark in "([{") - (mark in ")]}")
            position += 1
    return block, max(0, depth), line.endswith("\\")


def _source(cell: Dict[str, Any]) -> str:
    source = cell.get("source") or ""
    return "".join(source) if isinstance(source, list) else str(source)


def _tags(cell: Dict[str, Any]) -> List[str]:
    tags = (cell.get("metadata") or {}).get("tags")
    return tags if isinstance(tags, list) else []
