"""The generator from_manifest: a task for each row of a CSV or JSONL file of the repo."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.grid.task_source import (
    HERE,
    Kwargs,
    TaskSource,
    bad,
    chosen_columns,
    constants,
    no_clash,
    reading_jsonl,
    take,
)


def from_manifest(params: dict[str, Any], root: Path, fixed: Kwargs) -> TaskSource:
    """Return a task for each row of a file. The file itself is pushed with the code."""
    name, columns = take(params, path=str, columns=(list[str], []))
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise SpecInvalid(
            f"there is no file {name} in {root}",
            field="task_generator.params.path",
            remediation="Copy the manifest into the repo, so that it travels with the code, and name it relative to the repo.",
        )
    is_csv = path.suffix.lower() == ".csv"
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = _csv_rows(handle) if is_csv else [json.loads(line) for line in handle if line.strip()]
    except (ValueError, csv.Error) as error:
        raise bad(f"{name}: {error}", "task_generator.params.path") from error
    if not all(isinstance(row, dict) for row in rows):
        raise bad(f"{name}: every line must be a JSON object", "task_generator.params.path")
    missing = sorted(set(columns) - set().union(*rows)) if rows else []
    if missing:
        raise bad(f"{name} has no column {missing[0]!r}", "task_generator.params.columns")
    for row in rows[:1]:
        no_clash(fixed, set(columns or row))
    tasks = [{**{key: row[key] for key in columns or row if key in row}, **fixed} for row in rows]
    relative = path.relative_to(root).as_posix()
    python = (_reading_csv if is_csv else reading_jsonl)(f"../{relative}", fixed, columns)
    imports = (*(["csv"] if is_csv else []), "io", "json", "os")
    return TaskSource(len(tasks), lambda: iter(tasks), python, f"{len(tasks)} rows of {relative}", imports)


def number_or_text(text: str) -> Any:
    """Return the cell of a CSV file as a number, true, false or null if it is one in JSON, else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite and not isinstance(value, (dict, list, str)) else text


def _csv_rows(handle: Any) -> list[Kwargs]:
    reader = csv.DictReader(handle)
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has another number of columns than the header")
        rows.append({name: number_or_text(text) for name, text in row.items()})
    return rows


_CELL = '''
def cell(text):
    """A number, true, false or null where it reads as one; else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    finite = value == value and value not in (float("inf"), float("-inf"))
    return value if finite and not isinstance(value, (dict, list, str)) else text


'''


def _reading_csv(path: str, fixed: Kwargs, columns: list[str] | None = None) -> str:
    return (
        _CELL
        + constants(columns, fixed)
        + HERE
        + f'with io.open(os.path.join(HERE, {literal(path)}), encoding="utf-8", newline="") as lines:\n'
        + "    ROWS = list(csv.DictReader(lines))\n"
        + f"TASKS = [{chosen_columns('row', columns, fixed, 'cell({})')} for row in ROWS]\n"
    )
