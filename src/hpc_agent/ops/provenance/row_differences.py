"""Compare the rows of two runs: the metrics of each task, within tolerances."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec

from hpc_agent.node.shared.task_environment import canonical
from hpc_agent.node.shared.task_record import COMPLETE

KEPT = 5
Tasks = tuple[int | None, int | None]  # the numbers of one row in the run before, and in the repeat
_NONE: tuple[None, None] = (None, None)
Row = list[Any]  # state, metrics, and parameters where rows are matched by them


class RowComparison(msgspec.Struct):
    """What the comparison of all rows found, as VerifyReproductionResult has it; the first differences with their place."""

    rows_compared: int = 0
    rows_equal: int = 0
    rows_different: int = 0
    rows_in_one: int = 0
    failed_in_both: int = 0
    max_difference: float = 0.0
    max_relative_difference: float = 0.0
    differences: list[dict[str, Any]] = []

    @property
    def difference_count(self) -> int:
        return self.rows_different + self.rows_in_one

    def note(self, what: str, tasks: Tasks, before: Any, now: Any) -> None:
        """Keep a difference: ``task`` is the number in the repeat, ``task_before`` the one in the run before, if it differs."""
        if len(self.differences) < KEPT:
            old, number = tasks
            numbers = {"task": number} if old == number else {"task": number, "task_before": old}
            place = f"task {number}" if number is not None else f"task {old} of the run before"
            text = f"{what} of {place}" if what else place
            self.differences.append({"what": text, **numbers, "before": before, "now": now})


def compare_rows(
    before: dict[str, Row], now: dict[str, Row], by_number: bool, rtol: float, atol: float
) -> RowComparison:
    """Compare the rows of two runs, matched by task number, or by parameters (equal ones in the order of tasks)."""
    found = RowComparison()
    first, second = _keyed(before, by_number), _keyed(now, by_number)
    # In the order of the numbers in the repeat; rows that it lacks come last.
    for key in sorted(first | second, key=lambda key: (key not in second, (second.get(key) or first[key])[0])):
        (task, old), (number, new) = first.get(key, _NONE), second.get(key, _NONE)
        states = [row[0] if row else "no result" for row in (old, new)]
        if old and new and states == [COMPLETE, COMPLETE]:
            _compare_metrics(found, (task, number), old[1] or {}, new[1] or {}, rtol, atol)
        elif states[0] == states[1]:
            found.failed_in_both += 1
        else:
            found.rows_in_one += 1
            found.note("", (task, number), *states)
    return found


def _keyed(rows: dict[str, Row], by_number: bool) -> dict[Any, tuple[int, Row]]:
    seen: Counter[Any] = Counter()
    keyed: dict[Any, tuple[int, Row]] = {}
    for task, row in sorted((int(task), row) for task, row in rows.items()):
        key = task if by_number else canonical(row[2] or {})
        keyed[key, seen[key]] = (task, row)
        seen[key] += 1
    return keyed


def _compare_metrics(
    found: RowComparison, tasks: Tasks, old: dict[str, Any], new: dict[str, Any], rtol: float, atol: float
) -> None:
    found.rows_compared += 1
    same, within = True, True
    for name in [*old, *(name for name in new if name not in old)]:
        values = [_values(metrics.get(name)) for metrics in (old, new)]
        pairs = [_difference(a, b, rtol, atol) for a, b in zip(*values, strict=False)]
        if len(values[0]) != len(values[1]):
            pairs = [(False, math.inf, math.inf)]
        close = all(ok for ok, _, _ in pairs)
        same &= all(size == 0.0 for _, size, _ in pairs)
        sizes, parts = ([one[at] for one in pairs if math.isfinite(one[at])] for at in (1, 2))
        found.max_difference = max([found.max_difference, *sizes])
        found.max_relative_difference = max([found.max_relative_difference, *parts])
        if not close and within:
            found.note(name, tasks, _short(old.get(name)), _short(new.get(name)))
        within &= close
    found.rows_equal += same
    found.rows_different += not within


def _values(value: Any) -> list[float]:
    """Return the numbers of a metric: none where the run has no such metric. NaN and infinities are text in a record."""
    if value is None:
        return []
    several = value if isinstance(value, list) else [value]
    return [float(one) if isinstance(one, str) else one for one in several]


def _difference(before: float, now: float, rtol: float, atol: float) -> tuple[bool, float, float]:
    """Return True within the tolerances, the absolute and the relative difference. NaN equals NaN."""
    if before == now or (math.isnan(before) and math.isnan(now)):
        return True, 0.0, 0.0
    if not (math.isfinite(before) and math.isfinite(now)):
        return False, math.inf, math.inf
    size = abs(float(now - before))
    return size <= atol + rtol * abs(before), size, size / abs(before) if before else math.inf


def _short(value: Any) -> Any:
    return [*value[:3], f"... {len(value)} values"] if isinstance(value, list) and len(value) > 3 else value
