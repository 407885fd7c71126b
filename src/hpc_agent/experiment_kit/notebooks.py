"""The Python source of a notebook's cells, without magics and shell lines; each line keeps its number in the cell."""

import json
import re
from typing import List, Tuple

# Cell magics whose body is Python in the notebook's session; a cell with another one (%%bash, %%html) is left out.
PYTHON_CELLS = ("time", "timeit", "capture", "prun", "memit", "mprun")
SKIP_TAG = "hpc-skip"
_ASSIGNED = re.compile(r"^(\s*)([\w.,\s\[\]'\"]+?)\s*=\s*[!%]")
_TRAILING_HELP = re.compile(r"^[\w.]+\?{1,2}$")
# A text in three quotes (which may not end), any other text, a comment.
_LITERAL = re.compile(r"""("{3}|'{3}).*?(\1|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*""", re.DOTALL)


def code_cells(text: str) -> List[Tuple[int, str]]:
    """Return number and Python source of each code cell not tagged ``hpc-skip``. Raises ValueError for no notebook."""
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise ValueError("it has no list of cells")
    found = []
    for number, cell in enumerate(document["cells"]):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        try:
            if SKIP_TAG not in ((cell.get("metadata") or {}).get("tags") or ()):
                found.append((number, python_of("".join(cell.get("source") or ""))))
        except (TypeError, AttributeError):
            raise ValueError("cell %d has not the form of nbformat 4" % number) from None
    return found


def python_of(source: str) -> str:
    """Return the Python of a cell. A magic or shell line becomes an empty line, ``pass`` or ``name = None``."""
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("%%"):
        if first[2:].split(" ")[0].strip() not in PYTHON_CELLS:
            return "\n" * (len(lines) - 1)
        lines[lines.index(first)] = ""
    for number, line in enumerate(lines):
        plain = _plain(line)
        if plain != line and not _is_open("\n".join(lines[:number])):
            lines[number] = plain
    return "\n".join(lines)


def _plain(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    word = line.strip()
    if word.startswith(("%", "!", "?")) or _TRAILING_HELP.match(word):
        return indent + "pass" if indent else ""
    assigned = _ASSIGNED.match(line)
    return "%s%s = None" % (assigned.group(1), assigned.group(2)) if assigned else line


def _is_open(source: str) -> bool:
    """Return True within a text, brackets or a statement: the next line is no magic there."""
    if any(literal.group(1) and not literal.group(2) for literal in _LITERAL.finditer(source)):
        return True
    code = _LITERAL.sub("", source)
    return source.endswith("\\") or sum(map(code.count, "([{")) > sum(map(code.count, ")]}"))
