"""The Python source of a notebook's cells, without magics and shell lines; each line keeps its number in the cell."""

import ast
import json
import re
import textwrap
from typing import List, Optional, Tuple

# Cell magics whose body is Python in the notebook's session; a cell with another one (%%bash, %%html) is left out.
PYTHON_CELLS = ("time", "timeit", "capture", "prun", "memit", "mprun")
SKIP_TAG = "hpc-skip"
PARAMETERS_TAG = "parameters"
_ASSIGNED = re.compile(r"^(\s*)([\w.,\s\[\]'\"]+?)\s*=\s*[!%]")
_TRAILING_HELP = re.compile(r"^[\w.]+\?{1,2}$")
# What ``jupyter nbconvert`` writes for a magic or a shell line, perhaps assigned; and for a cell magic.
_IPYTHON = r"get_ipython\(\)\s*\.\s*\w+\s*\("
_IPYTHON_LINE = re.compile(r"^(\s*)(?:([\w.,\s\[\]'\"]+?)\s*=\s*)?" + _IPYTHON)
_CELL_MAGIC = re.compile(
    r"""\s*get_ipython\(\)\.run_cell_magic\(u?['"](\w+)['"],\s*(?:u?'[^']*'|u?"[^"]*"),\s*(.*)\)\s*$""", re.DOTALL
)
# A text in three quotes (which may not end), any other text, a comment.
_LITERAL = re.compile(r"""("{3}|'{3}).*?(\1|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*""", re.DOTALL)


def code_cells(text: str) -> List[Tuple[int, str]]:
    """Return number and Python source of each code cell not tagged ``hpc-skip``. Raises ValueError for no notebook."""
    return [(number, source) for number, source, _ in _tagged_cells(text)]


def parameters_cell(text: str) -> Optional[int]:
    """Return the number of the first code cell tagged ``parameters``, as papermill tags it; None without one."""
    return next((number for number, _, tags in _tagged_cells(text) if PARAMETERS_TAG in tags), None)


def _tagged_cells(text: str) -> List[Tuple[int, str, List[str]]]:
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise ValueError("it has no list of cells")
    found = []
    for number, cell in enumerate(document["cells"]):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        try:
            tags = list((cell.get("metadata") or {}).get("tags") or ())
            if SKIP_TAG not in tags:
                found.append((number, python_of("".join(cell.get("source") or "")), tags))
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
        elif _IPYTHON_LINE.match(line) and not _is_open("\n".join(lines[:number])):
            last = number
            while _is_open("\n".join(lines[number : last + 1])) and last + 1 < len(lines):
                last += 1
            lines[number : last + 1] = _without_ipython(lines[number : last + 1])
    return "\n".join(lines)


def _plain(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    word = line.strip()
    if word.startswith(("%", "!", "?")) or _TRAILING_HELP.match(word):
        return indent + "pass" if indent else ""
    assigned = _ASSIGNED.match(line)
    return "%s%s = None" % (assigned.group(1), assigned.group(2)) if assigned else line


def _without_ipython(lines: List[str]) -> List[str]:
    """Return as many lines that do without IPython; a cell magic with Python in it becomes ``exec`` of that Python."""
    source = "\n".join(lines)
    line, magic = _IPYTHON_LINE.match(source), _CELL_MAGIC.match(source)
    indent, target = (line.group(1), line.group(2)) if line else ("", None)
    if magic and magic.group(1) in PYTHON_CELLS:
        return (indent + "exec(%s)" % magic.group(2)).split("\n")
    if len(ast.parse(textwrap.dedent(source)).body) != 1:  # get_ipython().system("ls"); x = 2
        return re.sub(_IPYTHON, "(lambda *_: None)(", source).split("\n")
    first = "%s%s = None" % (indent, target) if target else indent and indent + "pass"
    return [first] + [""] * (len(lines) - 1)


def _is_open(source: str) -> bool:
    """Return True within a text, brackets or a statement: the next line is no magic there."""
    if any(literal.group(1) and not literal.group(2) for literal in _LITERAL.finditer(source)):
        return True
    code = _LITERAL.sub("", source)
    return source.endswith("\\") or sum(map(code.count, "([{")) > sum(map(code.count, ")]}"))
