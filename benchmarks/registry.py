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
    """``aim_sec`` is what the row should take on a quiet machine: no further repetition is begun after it. ``site`` is the test
    bed's site that it needs."""

    id: str
    title: str
    method: str
    aim_sec: int
    site: str
    measure: Callable[[Bench], None]
    peers: bool = False  # it runs other tools

    @property
    def limit_sec(self) -> int:
        """The row's time-out: a busy machine is slow."""
        return 3 * self.aim_sec


_ROWS: dict[str, Row] = {}


def row(
    name: str, title: str, *, aim_sec: int, site: str = "", peers: bool = False
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Register a row; the docstring of its function says how it is measured."""

    def register(measure: Callable[[Bench], None]) -> Callable[[Bench], None]:
        how = " ".join((measure.__doc__ or "").split())
        add(Row(name, title, how, aim_sec, site, measure, peers))
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
