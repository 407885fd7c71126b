"""The tasks of a generator and the Python that makes them, with helpers for the generators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.literals import literal

Kwargs = dict[str, Any]
MAX_TASKS = 1_000_000
# More listed tasks than this are written into MANIFEST instead of tasks.py.
INLINE_TASKS = 1000
MANIFEST = "tasks.jsonl"
CELL = '''
def cell(text):
    """A number, true, false or null where it reads as one; else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    finite = value == value and value not in (float("inf"), float("-inf"))
    return value if finite and not isinstance(value, (dict, list, str)) else text


'''
REMEDY = "Correct the generator's params (examples: 'hpc-agent scaffold-spec build-tasks-py'), then call again."


@dataclass(frozen=True)
class TaskSource:
    """The tasks of a generator. ``python`` defines TASKS; ``manifest`` is a further file that it reads."""

    count: int
    make: Callable[[], Iterator[Kwargs]]
    python: str
    about: str
    imports: tuple[str, ...] = ()
    manifest: str | None = None

    def names(self) -> set[str]:
        """Return the names of all parameters."""
        return {name for kwargs in self.make() for name in kwargs}


def bad(message: str, where: str = "task_generator.params") -> SpecInvalid:
    return SpecInvalid(message, field=where, remediation=REMEDY)


def typed_params(params: dict[str, Any], **kinds: Any) -> list[Any]:
    """Return the params with these names and types; a pair is a type and a default.

    Raises SpecInvalid for a param that is missing, unknown, or of a wrong type.
    """
    unknown = sorted(set(params) - set(kinds))
    if unknown:
        raise bad(
            f"there is no param {unknown[0]!r}; there are {', '.join(kinds)}", f"task_generator.params.{unknown[0]}"
        )
    values = []
    for name, kind in kinds.items():
        kind, default = kind if isinstance(kind, tuple) else (kind, ...)
        if name not in params and default is ...:
            raise bad(f"the param {name!r} is missing", f"task_generator.params.{name}")
        try:
            values.append(msgspec.convert(params.get(name, default), kind))
        except msgspec.ValidationError as error:
            raise bad(f"{name}: {error}", f"task_generator.params.{name}") from error
    return values


def check_fixed(fixed: Kwargs, names: set[str]) -> None:
    both = sorted(set(fixed) & names)
    if both:
        raise bad(f"{both[0]!r} is both fixed and varied", "fixed_params")


def listed(tasks: list[Kwargs], about: str) -> TaskSource:
    """Return tasks that are written one by one, into tasks.py or into MANIFEST."""
    if len(tasks) <= INLINE_TASKS:
        return TaskSource(len(tasks), lambda: iter(tasks), f"TASKS = {literal(tasks, 0, 8)}\n", about)
    text = "".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks)
    source = python_reading_rows(MANIFEST, {})
    return TaskSource(len(tasks), lambda: iter(tasks), source, about, ("io", "json", "os"), text)


def python_reading_rows(path: str, fixed: Kwargs, columns: Sequence[str] = (), is_csv: bool = False) -> str:
    """Return the Python that makes TASKS from the rows of a CSV or JSONL file beside tasks.py."""
    newline = ', newline=""' if is_csv else ""
    rows = "list(csv.DictReader(lines))" if is_csv else "[json.loads(line) for line in lines if line.strip()]"
    value = "cell(row[name])" if is_csv else "row[name]"
    task = f"{{name: {value} for name in {'COLUMNS if name in row' if columns else 'row'}}}"
    return (
        (CELL if is_csv else "")
        + (f"COLUMNS = {literal(columns)}\n" if columns else "")
        + (f"FIXED = {literal(fixed)}\n" if fixed else "")
        + "HERE = os.path.dirname(os.path.abspath(__file__))\n"
        + f'with io.open(os.path.join(HERE, {literal(path)}), encoding="utf-8"{newline}) as lines:\n'
        + f"    ROWS = {rows}\n"
        + f"TASKS = [{f'dict({task}, **FIXED)' if fixed else task} for row in ROWS]\n"
    )
