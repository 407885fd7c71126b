"""Turn blocks into lines for a terminal of some width. What is copied stays whole: ids, paths, commands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from hpc_agent.view.terminal.blocks import (
    STATE_STYLES,
    Bar,
    Block,
    Cell,
    Column,
    Content,
    Facts,
    Gap,
    Heading,
    Line,
    Para,
    Raw,
    Table,
    Title,
)

Lines = list[list[Cell]]

GAP = 2  # columns between two columns
LONGEST_LINE = 100  # of sentences: longer ones are hard to read
LEAST_WRAPPED = 16
MARKS = {"complete": "━", "running": "━", "failed": "━", "unknown": "╌", "pending": "┄"}
ASCII = str.maketrans(
    {"━": "=", "╌": "~", "┄": "-", "…": "...", "\u2013": "-", "\u2014": "-", "\u00d7": "x", "±": "+/-"}
)
# A command stays whole; between quotes or backquotes, or from its name to the end.
_WHOLE = re.compile(r"`[^`]+`\S*|'hpc-agent [^']+'\S*|\S+")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def lines_of(blocks: list[Block], width: int) -> Lines:
    """Return the lines of a view; only what may not be broken is longer than ``width``."""
    lines: Lines = []
    for block in blocks:
        if isinstance(block, (Gap, Heading)) and lines and lines[-1]:
            lines.append([])
        lines += _lines(block, width)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _lines(block: Block, width: int) -> Lines:
    match block:
        case Title(content):
            return wrapped(
                [cell._replace(style=cell.style or "title") for cell in cells(content)], min(width, LONGEST_LINE)
            )
        case Heading(text):
            return [[Cell(clean(text), "strong")]]
        case Para(content, indent):
            return _indented(wrapped(cells(content), min(width, LONGEST_LINE) - indent), indent)
        case Line(content, indent):
            return _indented([cells(content)], indent)
        case Raw(text, indent, hang):
            lines = [[Cell(line)] if line else [] for line in as_shown(text).split("\n")]
            return _indented(lines if hang is None else _hanging(lines, hang, width - indent), indent)
        case Facts(rows, indent):
            return _indented(_facts(rows, width - indent), indent)
        case Table(_, _, indent):
            return _indented(_table(block, width - indent), indent)
        case Bar(counts, total):
            return [_bar(counts, total, min(width, LONGEST_LINE) - 1)]
        case _:
            return []


def cells(content: Content) -> list[Cell]:
    parts = content if isinstance(content, list) else [content]
    return [Cell(clean(part)) if isinstance(part, str) else part._replace(text=clean(part.text)) for part in parts]


def clean(text: str) -> str:
    """Return text without what a terminal would obey instead of showing; a line end becomes a blank."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text).replace("\n", " ").replace("\t", " "))


def as_shown(text: str) -> str:
    """Return the output of a program with its lines, as it stood on a terminal after its carriage returns."""
    plain = _ESCAPES.sub("", text).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in plain.split("\n"))
    return _CONTROLS.sub("", "\n".join(line.expandtabs(8) for line in lines)).rstrip("\n")


def breadth(text: str) -> int:
    """Return the columns that a terminal needs for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _size(line: list[Cell]) -> int:
    return sum(breadth(cell.text) for cell in line)


def _indented(lines: Lines, columns: int) -> Lines:
    return [[Cell(" " * columns), *line] if line and columns else line for line in lines]


def _words(text: str) -> Iterator[str]:
    """Yield the words of a text; a command is one word, and so is what follows a colon from ``hpc-agent`` on."""
    head, found, command = text.partition(": hpc-agent ")
    yield from _WHOLE.findall(f"{head}:" if found else head)
    if found:
        yield f"hpc-agent {command}"


def wrapped(parts: list[Cell], width: int) -> Lines:
    """Break at words. A word that is longer than the line stands on a line of its own, whole."""
    lines: Lines = [[]]
    ended = False  # with a blank: the next word does not belong to the one before
    for text, style, whole in parts:
        apart = ended or text.startswith(" ")
        for word in [text] if whole else _words(text):
            blank = " " if apart and lines[-1] else ""
            if lines[-1] and _size(lines[-1]) + breadth(blank + word) > width:
                lines.append([Cell(word, style)])
            else:
                lines[-1].append(Cell(blank + word, style))
            apart = True
        ended = text.endswith(" ") or (ended and not text)
    return lines


def _hanging(lines: Lines, hang: int, width: int) -> Lines:
    """Break long lines at words; what follows stands below the text that begins at ``hang``."""
    broken: Lines = []
    for line in lines:
        if _size(line) <= width:
            broken.append(line)
            continue
        head, rest = line[0].text[:hang], line[0].text[hang:]
        first, *others = wrapped([Cell(rest)], max(LEAST_WRAPPED, width - hang))
        broken += [[Cell(head), *first], *([Cell(" " * hang), *other] for other in others)]
    return broken


def _facts(rows: list[tuple[str | Cell, Content]], width: int) -> Lines:
    if not rows:
        return []
    labels = [name if isinstance(name, Cell) else Cell(name, "dim") for name, _ in rows]
    names = max(breadth(clean(name.text)) for name in labels) + GAP
    lines: Lines = []
    for label, (_, content) in zip(labels, rows, strict=True):
        value = wrapped(cells(content), max(LEAST_WRAPPED, min(width, LONGEST_LINE) - names))
        lines.append([Cell(pad(clean(label.text), names), label.style), *value[0]])
        lines += [[Cell(" " * names), *line] for line in value[1:]]
    return lines


def pad(text: str, width: int, right: bool = False) -> str:
    blanks = " " * max(0, width - breadth(text))
    return blanks + text if right else text + blanks


def _table(table: Table, width: int) -> Lines:
    rows = [[cells(content) for content in row] for row in table.rows]
    if not rows:
        return []
    natural = [
        max([breadth(column.name), *(_size(row[at]) for row in rows)]) for at, column in enumerate(table.columns)
    ]
    widths = _fitted(table.columns, natural, width)
    if widths is None:
        return _stacked(table.columns, rows, width)
    head = [
        Cell(pad(column.name, size, column.right), "dim") for column, size in zip(table.columns, widths, strict=True)
    ]
    lines = [_joined([[cell] for cell in head])] if any(column.name for column in table.columns) else []
    for row in rows:
        lines += _row(table.columns, row, widths)
    return lines


def _fitted(columns: list[Column], natural: list[int], width: int) -> list[int] | None:
    """Return the widths of the columns, those that wrap narrower than their text; None where even this does not fit."""
    spare = width - sum(natural) - GAP * (len(columns) - 1)
    widths = list(natural)
    while spare < 0:
        wide = [at for at, column in enumerate(columns) if column.wraps and widths[at] > LEAST_WRAPPED]
        if not wide:
            return None
        widest = max(wide, key=lambda at: widths[at])
        widths[widest] -= 1
        spare += 1
    return widths


def _row(columns: list[Column], row: list[list[Cell]], widths: list[int]) -> Lines:
    broken = [
        wrapped(cell, size) if column.wraps else [cell] for column, cell, size in zip(columns, row, widths, strict=True)
    ]
    return [
        _joined(
            [
                _padded(lines[number] if number < len(lines) else [], size, column.right)
                for lines, size, column in zip(broken, widths, columns, strict=True)
            ]
        )
        for number in range(max(map(len, broken)))
    ]


def _padded(line: list[Cell], size: int, right: bool) -> list[Cell]:
    blanks = Cell(" " * max(0, size - _size(line)))
    return [blanks, *line] if right else [*line, blanks]


def _joined(parts: list[list[Cell]]) -> list[Cell]:
    """Return the cells of a line with the space between them, without blanks at its end."""
    line = [cell for at, part in enumerate(parts) for cell in ([Cell(" " * GAP)] if at else []) + part]
    while line and not line[-1].text.strip():
        line.pop()
    return [*line[:-1], Cell(line[-1].text.rstrip(), line[-1].style)] if line else []


def _stacked(columns: list[Column], rows: list[list[list[Cell]]], width: int) -> Lines:
    """Return each row as names with values, for a terminal that is too narrow for the table."""
    lines: Lines = []
    for row in rows:
        facts: list[tuple[str | Cell, Content]] = [
            (column.name, [*cell]) for column, cell in zip(columns, row, strict=True) if any(part.text for part in cell)
        ]
        lines += [*([[]] if lines else []), *_facts(facts, width)]
    return lines


def _bar(counts: dict[str, int], total: int, width: int) -> list[Cell]:
    """Return a bar of ``width`` columns; a state that has any task has at least one column."""
    known = {name: counts.get(name, 0) for name in MARKS}
    known["pending"] += max(0, total - sum(known.values()))
    shares = {name: max(1, width * count // max(total, 1)) for name, count in known.items() if count}
    if not shares:
        return []
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] += width - sum(shares.values())
    return [Cell(MARKS[name] * columns, STATE_STYLES[name]) for name, columns in shares.items()]
