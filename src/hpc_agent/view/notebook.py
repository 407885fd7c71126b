"""A result as HTML for a notebook: its rows, its facts, then a table for each list. A pure function of the result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

import msgspec

ROWS_SHOWN, ITEMS_SHOWN = 200, 20
CHARACTERS_SHOWN, TEXT_SHOWN = 300, 10_000  # of one line; of several, such as a log
# Fields that end a display: what to know, and what to do.
_LAST = ("notes", "next_step", "next_steps", "next_command")
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap"


def html(result: Any) -> str:
    """Return tables for a result of a verb. Empty fields are left out; a long list is cut, and the cut is told."""
    data: dict[str, Any] = msgspec.to_builtins(result)
    defaults = {field.name: field.default for field in msgspec.structs.fields(result)}
    told = {n: v for n, v in data.items() if not _is_empty(v) and (v != defaults[n] or n in _LAST)}
    columns, rows = told.pop("columns", None), told.pop("rows", None)
    facts = {name: value for name, value in told.items() if name not in _LAST and not _is_table(value)}
    blocks = [_table(columns, rows)] if columns and isinstance(rows, list) else [_facts({"columns": columns})]
    blocks.append(_facts(facts))
    for name in [name for name in told if name not in facts and name not in _LAST]:
        blocks += [f"<p><b>{escape(name)}</b></p>", _section(told[name])]
    blocks.append(_facts({name: told[name] for name in _LAST if name in told}))
    return f"<div>{''.join(blocks)}</div>"


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value in ([], {})


def _is_table(value: Any) -> bool:
    """Return whether a value needs a table of its own: a list of objects, or an object with others inside."""
    items = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return any(isinstance(item, Mapping | list) and not _is_empty(item) for item in items)


def _section(value: Any) -> str:
    """Return the table of a list of objects, of an object of such objects by name, or the facts of another object."""
    if isinstance(value, list):
        return _records([_record(item) for item in value])
    if all(isinstance(item, Mapping) for item in value.values()):
        return _records([{"": name, **item} for name, item in value.items()])
    return _facts(value)


def _record(item: Any) -> dict[str, Any]:
    return {**item} if isinstance(item, Mapping) else {"value": item}


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    used = dict.fromkeys(name for record in records for name, cell in record.items() if not _is_empty(cell))
    return _table(list(used), [[_text(record.get(name), name) for name in used] for record in records])


def _facts(facts: Mapping[str, Any]) -> str:
    cells = [(name, _text(value, name)) for name, value in facts.items() if not _is_empty(value)]
    lines = "".join(f"<tr>{_tag('th', name)}{_tag('td', text)}</tr>" for name, text in cells if text)
    return lines and f"<table>{lines}</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"<thead><tr>{''.join(_tag('th', str(name)) for name in head)}</tr></thead>"]
    lines += [f"<tr>{''.join(_tag('td', _text(cell)) for cell in row)}</tr>" for row in rows[:ROWS_SHOWN]]
    left = len(rows) - ROWS_SHOWN
    return f"<table>{''.join(lines)}</table>" + (f"<p>and {left} more</p>" if left > 0 else "")


def _tag(tag: str, text: str) -> str:
    return f'<{tag} style="{_CELL}">{escape(text)}</{tag}>'


def _text(value: Any, name: str = "") -> str:
    """Return a value as the text of a cell: ``complete 3, failed 1`` for counts."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if name.endswith("_at") and isinstance(value, float):
        return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping) and not _is_table(value):
        return _joined(list(_counts(value)), ", ")
    if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        return _joined([f"{name}: {_text(item)}" for name, item in value.items()], "\n")
    if isinstance(value, list) and not _is_table(value):
        texts = [_text(item) for item in value]
        return _joined(texts, "\n" if any(" " in text for text in texts) else ", ")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    limit = TEXT_SHOWN if "\n" in text else CHARACTERS_SHOWN
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _counts(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``name value`` for what an object says: nothing that is empty, a count of zero, or not the case."""
    for name, item in value.items():
        if not _is_empty(item) and item is not False and not (item == 0 and isinstance(item, int)):
            yield f"{name} {_text(item, name)}"


def _joined(parts: list[str], separator: str) -> str:
    left = len(parts) - ITEMS_SHOWN
    return separator.join(parts[:ITEMS_SHOWN]) + (f"{separator}and {left} more" if left > 0 else "")
