"""A result as HTML for a notebook: the view of its verb, which a terminal shows as text. A pure function of the result."""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec

from hpc_agent.contract.primitive import REGISTRY
from hpc_agent.view.terminal.blocks import (
    STATE_STYLES,
    Bar,
    Block,
    Cell,
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
from hpc_agent.view.terminal.layout import MARKS, as_shown, cells, clean
from hpc_agent.view.terminal.views import success

ROWS_SHOWN = 500
# Colours that can be read on a light and on a dark page; what is dim takes the page's own colour.
_STYLES = {
    "good": "color:#2a9d4a",
    "bad": "color:#e0483e",
    "busy": "color:#3b82d6",
    "warn": "color:#c27c0e",
    "dim": "opacity:.7",
    "strong": "font-weight:bold",
    "title": "font-weight:bold",
}
_FILLS = {"good": "#2a9d4a", "bad": "#e0483e", "busy": "#3b82d6", "warn": "#c27c0e"}
_LEFT, _RIGHT = "text-align:left;vertical-align:top", "text-align:right;vertical-align:top"
_MONO = "font-family:monospace;white-space:pre-wrap"


def html(result: Any) -> str:
    """Return the view of a result as HTML."""
    data = msgspec.to_builtins(result)
    errors = data.pop("partial_errors", [])
    # the verb of a result is in the registry, because both are in one module
    verb = next((name for name, primitive in REGISTRY.items() if primitive.result is type(result)), "")
    blocks = success(verb, {"data": data, "partial_errors": errors})
    return f"<div>{''.join(map(_block, blocks))}</div>"


def _block(block: Block) -> str:
    match block:
        case Title(content):
            return f'<p style="font-weight:bold">{_inline(content)}</p>'
        case Heading(text):
            return f"<p><b>{escape(clean(text))}</b></p>"
        case Para(content, _):
            return f"<div>{_inline(content)}</div>"
        case Line(content, _):
            return f'<div style="{_MONO}">{_inline(content)}</div>'
        case Raw(text, _, _):
            return f'<pre style="white-space:pre-wrap">{escape(as_shown(text))}</pre>'
        case Facts(rows, _):
            return _facts(rows)
        case Table():
            return _table(block)
        case Bar(counts, total):
            return _bar(counts, total)
        case Gap():
            return '<div style="height:.5em"></div>'


def _inline(content: Content) -> str:
    return "".join(map(_cell, cells(content)))


def _cell(cell: Cell) -> str:
    style = _STYLES.get(cell.style)
    return f'<span style="{style}">{escape(cell.text)}</span>' if style else escape(cell.text)


def _facts(rows: list[tuple[str | Cell, Content]]) -> str:
    lines = (
        f'<tr><td style="{_LEFT};opacity:.7">{_inline(name)}</td><td style="{_LEFT}">{_inline(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{''.join(lines)}</table>" if rows else ""


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    styles = [_RIGHT if column.right else _LEFT for column in table.columns]
    names = zip(styles, table.columns, strict=True)
    head = "".join(f'<th style="{style}">{escape(clean(column.name))}</th>' for style, column in names)
    lines = [
        "".join(f'<td style="{style}">{_inline(cell)}</td>' for style, cell in zip(styles, row, strict=True))
        for row in table.rows[:ROWS_SHOWN]
    ]
    left = len(table.rows) - ROWS_SHOWN
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead>{body}</table>" + (f"<p>and {left} more</p>" if left > 0 else "")


def _bar(counts: dict[str, int], total: int) -> str:
    parts = [
        f'<div title="{name} {count}" style="width:{100 * count / max(total, 1):.2f}%;'
        f'background:{_FILLS.get(STATE_STYLES[name], "#9a9a9a")}"></div>'
        for name in MARKS
        if (count := counts.get(name))
    ]
    return f'<div style="display:flex;height:.5em;max-width:40em;margin:.3em 0">{"".join(parts)}</div>'
