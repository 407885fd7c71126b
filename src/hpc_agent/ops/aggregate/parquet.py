"""Write the table as Parquet, with pyarrow or with DuckDB, whichever is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_agent.errors import PreconditionFailed
from hpc_agent.ops.aggregate.table import Column

INT64 = 1 << 63


def parquet_library() -> str:
    """Return the name of the library. Raises PreconditionFailed where neither is installed."""
    for name in ("pyarrow", "duckdb"):
        if importlib.util.find_spec(name):
            return name
    raise PreconditionFailed(
        "a Parquet file needs pyarrow or duckdb, and neither is installed beside hpc-agent",
        remediation="Run pip install 'hpc-agent[parquet]', or leave out --parquet: table.csv has the same columns.",
    )


def write_parquet(path: Path, columns: Sequence[Column]) -> list[str]:
    """Write the columns. Returns notes about columns that became text, because no Parquet type holds their values exactly.

    Whole numbers are INT64, other numbers DOUBLE, flags BOOLEAN, and all else text. Missing values are null.
    """
    kinds = {column.name: _kind(column.values) for column in columns}
    typed = [
        [None if value is None else _as(kinds[column.name], value) for value in column.values] for column in columns
    ]
    write = _by_pyarrow if parquet_library() == "pyarrow" else _by_duckdb
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished, kinds, typed)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    texts = [column for column in columns if kinds[column.name] == "VARCHAR"]
    mixed = [column.name for column in texts if any(isinstance(value, (int, float)) for value in column.values)]
    return [f"table.parquet has {', '.join(mixed)} as text: no number type holds every value exactly"] if mixed else []


def _kind(values: list[Any]) -> str:
    """Return the narrowest type, by its name in SQL, that holds every value as it is."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return "BOOLEAN"
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in present):
        return "VARCHAR"
    if present and all(isinstance(value, int) for value in present):
        return "BIGINT" if all(-INT64 <= value < INT64 for value in present) else "VARCHAR"
    return "DOUBLE" if all(_is_double(value) for value in present) else "VARCHAR"


def _is_double(value: float) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _as(kind: str, value: Any) -> Any:
    if kind == "DOUBLE":
        return float(value)
    return json.dumps(value, sort_keys=True) if kind == "VARCHAR" and not isinstance(value, str) else value


def _by_pyarrow(path: Path, kinds: dict[str, str], values: list[list[Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {"BOOLEAN": "bool", "BIGINT": "int64", "DOUBLE": "float64", "VARCHAR": "string"}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    pyarrow.parquet.write_table(pyarrow.table(values, schema=schema), path)


def _by_duckdb(path: Path, kinds: dict[str, str], values: list[list[Any]]) -> None:
    """Hand the rows over as lines of JSON: DuckDB inserts single rows slowly. Columns have numbers for names there."""
    import duckdb

    kinds_by_name = ", ".join(f"'{number}': '{kind}'" for number, kind in enumerate(kinds.values()))
    renamed = ", ".join(f'"{number}" AS "{name.replace(chr(34), chr(34) * 2)}"' for number, name in enumerate(kinds))
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8", dir=path.parent) as lines:
        for row in zip(*values, strict=True):
            lines.write(json.dumps({str(number): cell for number, cell in enumerate(row)}) + "\n")
        lines.flush()
        source = f"read_json(?, format='newline_delimited', columns={{{kinds_by_name}}})"
        with duckdb.connect() as database:
            database.execute(f"CREATE TABLE found AS SELECT {renamed} FROM {source}", [lines.name])  # noqa: S608
            database.table("found").write_parquet(str(path))
