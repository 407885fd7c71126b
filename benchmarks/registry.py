"""The rows: a function under ``@row`` measures one, and gets a Bench to record with."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from benchmarks.bench import Bench


class Row(msgspec.Struct, frozen=True):
    """``limit_sec`` is the row's time-out; ``site`` the test bed's site that it needs."""

    id: str
    title: str
    method: str
    limit_sec: int
    site: str
    measure: Callable[[Bench], None]


_ROWS: dict[str, Row] = {}


def row(
    name: str, title: str, *, limit_sec: int, site: str = "", method: str = ""
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Register a row. Without a method, the docstring says how it is measured."""

    def register(measure: Callable[[Bench], None]) -> Callable[[Bench], None]:
        how = method or " ".join((measure.__doc__ or "").split())
        add(Row(name, title, how, limit_sec, site, measure))
        return measure

    return register


def add(made: Row) -> None:
    if made.id in _ROWS:
        raise ValueError(f"two rows are called {made.id}")
    _ROWS[made.id] = made


def all_rows() -> list[Row]:
    """Every row of benchmarks/rows, in the order of ORDER there."""
    package = importlib.import_module("benchmarks.rows")
    found = {module.name for module in pkgutil.iter_modules(package.__path__)}
    for name in package.ORDER:
        importlib.import_module(f"benchmarks.rows.{name}")
    missing = found - set(package.ORDER)
    if missing:
        raise ValueError(f"benchmarks/rows/__init__.py: ORDER lacks {', '.join(sorted(missing))}")
    return list(_ROWS.values())


def chosen(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows that a name or a shell pattern means; all without one. Raises ValueError for a pattern that means none."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(one.id, pattern) for one in rows):
            raise ValueError(f"no row is called {pattern}; --list names them")
    return [one for one in rows if not patterns or any(fnmatch.fnmatchcase(one.id, p) for p in patterns)]
