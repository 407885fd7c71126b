"""The view of an answer of any shape: names with values, tables for lists of records, text as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_agent.view.terminal.blocks import (
    STATE_STYLES,
    Block,
    Cell,
    Column,
    Content,
    Facts,
    Heading,
    Line,
    Para,
    Raw,
    Table,
)
from hpc_agent.view.terminal.words import brief, named

INDENT = 2
SHORT = 60  # characters of a list or mapping that stands on one line
DEEPEST = 3
MOST_COLUMNS = 7
# Names whose values are copied: they stay whole.
WHOLE = (
    "_id",
    "_ids",
    "path",
    "_dir",
    "command",
    "step",
    "_sha",
    "file",
    "folder",
    "_csv",
    "_json",
    "report",
    "executor",
)
_HIDDEN: tuple[Any, ...] = (None, "", {}, [])


def generic(data: Mapping[str, Any]) -> list[Block]:
    """Return the view of a mapping; what is empty is left out."""
    blocks = below(data, 0)
    return blocks or [Line("Nothing found.")]


def below(data: Mapping[str, Any], depth: int) -> list[Block]:
    """Return single values first, then what has parts, each under its name."""
    single = {name: value for name, value in data.items() if _is_single(value) and value not in _HIDDEN}
    parts = {name: value for name, value in data.items() if name not in single and value not in _HIDDEN}
    indent = INDENT * depth
    blocks: list[Block] = [Facts([(label(name), content(name, value)) for name, value in single.items()], indent)]
    for name, value in parts.items():
        heading: Block = Heading(label(name)) if depth == 0 else Line(Cell(label(name), "strong"), indent)
        blocks += [heading, *_part(name, value, depth + 1)]
    return [block for block in blocks if not isinstance(block, Facts) or block.rows]


def label(name: str) -> str:
    """Return the name of a field as words, without the unit that its value will show."""
    for ending in ("_sec", "_seconds", "_mb", "_at"):
        name = name.removesuffix(ending) or name
    return name.replace("_", " ")


def content(name: str, value: Any) -> Content:
    """Return the value of a field as a cell; states have their colours."""
    text = named(name, value)
    if name.endswith(WHOLE):
        return Cell(text, whole=True)
    return Cell(text.replace("_", " "), STATE_STYLES[text]) if text in STATE_STYLES else text


def _is_single(value: Any) -> bool:
    """Does the value fit on the line of its name?"""
    if isinstance(value, Mapping):
        return all(_is_scalar(item) for item in value.values()) and len(brief(value)) <= SHORT
    if isinstance(value, (list, tuple)):
        return all(_is_scalar(item) for item in value) and len(brief(value)) <= SHORT
    return "\n" not in value if isinstance(value, str) else True


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (Mapping, list, tuple))


def _part(name: str, value: Any, depth: int) -> list[Block]:
    indent = INDENT * depth
    if isinstance(value, str):
        return [Raw(value, indent)]
    if depth >= DEEPEST:
        return [Line(brief(value), indent)]
    if isinstance(value, Mapping):
        if len(value) > 1 and all(isinstance(item, Mapping) for item in value.values()):
            return records([{label(name): key, **item} for key, item in value.items()], depth)
        return below(value, depth)
    if all(isinstance(item, Mapping) for item in value):
        return records(value, depth)
    return [Para(brief(item), indent) for item in value]


def records(rows: Sequence[Mapping[str, Any]], depth: int = 0) -> list[Block]:
    """Return mappings as one table, or below each other where they hold too much for a line."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if value not in _HIDDEN))
    is_flat = all(_is_single(row.get(name)) for row in rows for name in names) and len(names) <= MOST_COLUMNS
    if is_flat:
        return [table(rows, names, INDENT * depth)]
    blocks: list[Block] = []
    for row in rows:
        blocks += [*([Line("")] if blocks else []), *below(row, depth)]
    return blocks


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], indent: int = 0) -> Table:
    """Return a table of these fields; numbers end at one edge, and only sentences are wrapped."""
    columns = [
        Column(label(name), right=_are_numbers(rows, name), wraps=not name.endswith(WHOLE) and name != "name")
        for name in names
    ]
    cells: list[list[Content]] = [
        [content(name, row[name]) if row.get(name) not in _HIDDEN else "" for name in names] for row in rows
    ]
    return Table(columns, cells, indent)


def _are_numbers(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
