"""Task generators: each kind checks its params and returns the tasks, their number and the Python that makes them."""

from __future__ import annotations

import csv
import decimal
import functools
import inspect
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.axis_values import MAX_TASKS, Axes, bad, spread, values_of
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.node.shared import task_environment
from hpc_agent.state.repo_files import local_path

Kwargs = dict[str, Any]
# More listed tasks than this are written into MANIFEST instead of tasks.py.
INLINE_TASKS = 1000
MANIFEST = "tasks.jsonl"


def cell(text: str) -> object:
    """A number, true, false or null where it reads as one; else the text, and for a number with more digits than a float."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and decimal.Decimal(text.strip()) != decimal.Decimal(repr(value)):
        return text
    return text if isinstance(value, (dict, list, str)) else value


@dataclass(frozen=True)
class TaskSource:
    """The tasks of a generator. ``python`` defines TASKS; ``manifest`` is a further file that it reads."""

    count: int
    make: Callable[[], Iterator[Kwargs]]
    python: str
    about: str
    imports: tuple[str, ...] = ()
    manifest: str | None = None


def typed_params(params: dict[str, Any], **kinds: Any) -> list[Any]:
    """Return the params with these types (or type and default). Raises SpecInvalid for a wrong, missing or unknown one."""
    if unknown := sorted(set(params) - set(kinds)):
        raise bad(f"there is no param {unknown[0]!r}; there are {', '.join(kinds)}", unknown[0])
    values = []
    for name, kind in kinds.items():
        kind, default = kind if isinstance(kind, tuple) else (kind, ...)
        if name not in params and default is ...:
            raise bad(f"the param {name!r} is missing", name)
        try:
            values.append(msgspec.convert(params.get(name, default), kind))
        except msgspec.ValidationError as error:
            raise bad(f"{name}: {error}", name) from error
    return values


def check_fixed(fixed: Kwargs, names: set[str]) -> None:
    if both := sorted(set(fixed) & names):
        raise bad(f"{both[0]!r} is both fixed and varied", field="fixed_params")


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
        ("\n" + inspect.getsource(cell).replace("(text: str) -> object", "(text)") + "\n\n" if is_csv else "")
        + (f"COLUMNS = {literal(columns)}\n" if columns else "")
        + (f"FIXED = {literal(fixed)}\n" if fixed else "")
        + "HERE = os.path.dirname(os.path.abspath(__file__))\n"
        + f'with io.open(os.path.join(HERE, {literal(path)}), encoding="utf-8"{newline}) as lines:\n'
        + f"    ROWS = {rows}\n"
        + f"TASKS = [{f'dict({task}, **FIXED)' if fixed else task} for row in ROWS]\n"
    )


class TaskGenerator(msgspec.Struct, forbid_unknown_fields=True):
    """The kind of a generator, and the params of that kind."""

    kind: Annotated[Literal[
        "enumerated", "cartesian_product", "items_x_seeds", "numeric_logspace", "numeric_linspace", "from_manifest",
        "latin_hypercube", "sobol",
    ], Meta(description="shape of the tasks")]  # fmt: skip
    params: Annotated[
        dict[str, Any], Meta(description="of that kind: items, axes, seeds, param, low, high, n, path, ranges")
    ] = {}


def make_source(
    generator: TaskGenerator | None, root: Path, fixed: Kwargs | None = None, axes: Axes | None = None
) -> TaskSource:
    """Return the tasks of ``generator``, times the values of ``axes``, each with the ``fixed`` parameters.

    Without a generator the axes alone make the tasks, without both there is one task. Raises SpecInvalid with the wrong param.
    """
    source = _made(generator, root, dict(fixed or {}), axes or {})
    if source.count < 1:
        raise bad("the generator makes no task")
    if source.count > MAX_TASKS:
        raise bad(f"{source.about} makes {source.count:,} tasks; one run has at most {MAX_TASKS:,}")
    for number, kwargs in enumerate(source.make()):
        try:
            json.dumps(kwargs, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise bad(f"task {number}: a value is not JSON: {error}") from error
        if found := task_environment.problems(kwargs):
            hint = next((_spelling(name) for name in kwargs if not task_environment.ENV_NAME.match(name)), "")
            raise bad(f"task {number}: {found[0]}{hint}", field="task_generator.params" if generator else "axes")
    return source


def _spelling(name: str) -> str:
    """Return how a parameter such as opt.lr is written; an empty text for a name that no spelling mends."""
    plain = name.replace(".", "__").replace("-", "_")
    return f"; write {plain!r} for it" if task_environment.ENV_NAME.match(plain) else ""


def _made(generator: TaskGenerator | None, root: Path, fixed: Kwargs, axes: Axes) -> TaskSource:
    if generator is None:
        return product(values_of(axes, "axes"), fixed) if axes else _enumerated({"items": [{}]}, root, fixed)
    params, inner = generator.params, generator.params.get("axes")
    if axes and generator.kind == "cartesian_product" and isinstance(inner, dict):
        if both := sorted(set(inner) & set(axes)):
            raise bad(f"{both[0]!r} is an axis twice", both[0], "axes")
        return _cartesian({**params, "axes": {**msgspec.to_builtins(axes), **inner}}, root, fixed)
    source = _KINDS[generator.kind](params, root, fixed)
    return _times(source, values_of(axes, "axes")) if axes else source


def _enumerated(params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    [items] = typed_params(params, items=list[dict[str, Any]])
    check_fixed(fixed, set().union(*items))
    return listed([{**item, **fixed} for item in items], f"{len(items)} listed task" + ("" if len(items) == 1 else "s"))


def _cartesian(params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    [axes] = typed_params(params, axes=Axes)
    if not axes:
        raise bad("axes is empty: name at least one parameter with its values", "axes")
    return product(values_of(axes, "task_generator.params.axes"), fixed)


def product(axes: dict[str, list[Any]], fixed: Kwargs, about: str = "") -> TaskSource:
    """Return every combination of the values of ``axes``, the last axis the fastest."""
    about = about or " x ".join(f"{len(values)} {name}" for name, values in axes.items())
    check_fixed(fixed, set(axes))
    all_axes = {**axes, **{name: [value] for name, value in fixed.items()}}
    python = _written("AXES", all_axes)
    python += "TASKS = [dict(zip(AXES, values)) for values in itertools.product(*AXES.values())]\n"
    make = lambda: (dict(zip(all_axes, chosen, strict=True)) for chosen in itertools.product(*all_axes.values()))  # noqa: E731
    return TaskSource(math.prod(map(len, axes.values())), make, python, about, ("itertools",))


def _written(name: str, axes: dict[str, list[Any]]) -> str:
    """Return the Python that sets ``name`` to the values of the axes."""
    rows = [f"    {literal(axis)}: {literal(values, 4, len(axis) + 4)},\n" for axis, values in axes.items()]
    return f"{name} = {{\n{''.join(rows)}}}\n"


def _times(source: TaskSource, axes: dict[str, list[Any]]) -> TaskSource:
    """Return each task of ``source`` with every combination of the values of ``axes``."""
    more = product(axes, {})

    def make() -> Iterator[Kwargs]:
        for task in source.make():
            if both := sorted(set(task) & set(axes)):
                raise bad(
                    f"{both[0]!r} is varied by an axis, and by the generator or fixed_params too", both[0], "axes"
                )
            yield from ({**task, **chosen} for chosen in more.make())

    python = source.python + _written("MORE", axes)
    pairs = "for task in TASKS for values in itertools.product(*MORE.values())"
    python += f"TASKS = [dict(task, **dict(zip(MORE, values))) {pairs}]\n"
    imports = (*source.imports, "itertools")
    return TaskSource(
        source.count * more.count, make, python, f"({source.about}) x {more.about}", imports, source.manifest
    )


def _items_x_seeds(params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    items, seeds = typed_params(params, items=list[dict[str, Any]], seeds=list[int])
    check_fixed(fixed, set().union(*items))
    if any("seed" in item for item in items):
        raise bad("an item has a 'seed' of its own", "items")
    whole = [{**item, **fixed} for item in items]
    python = f"ITEMS = {literal(whole, 0, 8)}\nSEEDS = {literal(seeds, 0, 8)}\n"
    python += "TASKS = [dict(item, seed=seed) for item in ITEMS for seed in SEEDS]\n"
    make = lambda: ({**item, "seed": seed} for item in whole for seed in seeds)  # noqa: E731
    return TaskSource(len(items) * len(seeds), make, python, f"{len(items)} items x {len(seeds)} seeds")


def _numeric(is_log: bool, params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    """Return tasks with n values of one parameter. The values do not depend on the base, which is checked only."""
    only_log = {"base": (float, 10.0)} if is_log else {}
    param, low, high, n, *more = typed_params(params, param=str, low=float, high=float, n=int, **only_log)
    if is_log and (more[0] <= 0 or more[0] == 1):
        raise bad("the base must be positive, and not 1", "base")
    values = spread(low, high, n, is_log, "task_generator.params")
    about = f"{n} {param} from {low:g} to {high:g}" + (", log-spaced" if is_log else "")
    return product({param: values}, fixed, about)


def _from_manifest(params: dict[str, Any], root: Path, fixed: Kwargs) -> TaskSource:
    """Return a task for each row of a file. The file itself is pushed with the code."""
    name, columns = typed_params(params, path=str, columns=(list[str], []))
    path = local_path(root, name, "task_generator.params.path")
    if not path.is_relative_to(root) or not path.is_file():
        remedy = "Copy the manifest into the repo, so that it travels with the code, and name it relative to the repo."
        field = "task_generator.params.path"
        raise SpecInvalid(f"there is no file {name} in {root}", field=field, remediation=remedy)
    is_csv = path.suffix.lower() == ".csv"
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(_csv_rows(handle)) if is_csv else [json.loads(line) for line in handle if line.strip()]
    except (ValueError, csv.Error) as error:
        raise bad(f"{name}: {error}", "path") from error
    if not all(isinstance(row, dict) for row in rows):
        raise bad(f"{name}: every line must be a JSON object", "path")
    if rows and (missing := sorted(set(columns) - set().union(*rows))):
        raise bad(f"{name} has no column {missing[0]!r}", "columns")
    check_fixed(fixed, set(columns or rows[0]) if rows else set())
    tasks = [{**{key: row[key] for key in columns or row if key in row}, **fixed} for row in rows]
    relative = path.relative_to(root).as_posix()
    python = python_reading_rows(f"../{relative}", fixed, columns, is_csv)
    imports = (*(["csv", "decimal"] if is_csv else []), "io", "json", "os")
    return TaskSource(len(tasks), lambda: iter(tasks), python, f"{len(tasks)} rows of {relative}", imports)


def _csv_rows(handle: Iterable[str]) -> Iterator[Kwargs]:
    """Yield each row with the values that tasks.py will read from it."""
    reader = csv.DictReader(handle)
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has another number of columns than the header")
        yield {name: cell(text) for name, text in row.items()}


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """The range of a sampled parameter; ``log`` spreads the values over the orders of magnitude, ``integer`` rounds them."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def at(self, share: float) -> float | int:
        """Return the value at a share of the range, from 0 to 1."""
        low, high = self.low, self.high
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if self.integer:
            return min(int(high), int(low) + int(share * (int(high) - int(low) + 1))) if not self.log else round(value)
        return value


def _sampled(engine: str, called: str, params: dict[str, Any], _: Path, fixed: Kwargs) -> TaskSource:
    """Return points of scipy.stats.qmc as listed tasks: a run must not depend on the version of SciPy."""
    ranges, n, seed = typed_params(params, ranges=dict[str, Range], n=int, seed=(int, 0))
    check_fixed(fixed, set(ranges))
    if not ranges or not 1 <= n <= MAX_TASKS or seed < 0:
        raise bad(f"name at least one range, n from 1 to {MAX_TASKS:,}, and a seed from 0 on")
    for name, span in ranges.items():
        if not (math.isfinite(span.low) and math.isfinite(span.high) and span.low < span.high):
            raise bad(f"{name}: low must be below high", f"ranges.{name}")
        if span.log and span.low <= 0:
            raise bad(f"{name}: low must be positive on a log scale", f"ranges.{name}")
    try:
        from scipy.stats import qmc  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        message = f"{called} points are drawn by SciPy, which is not installed here"
        remedy = "Run \"pip install 'hpc-agent[sampling]'\", then the same hpc-agent command."
        raise SpecInvalid(message, field="task_generator.kind", remediation=remedy) from None
    drawn = getattr(qmc, engine)(d=len(ranges), seed=seed)
    points = drawn.random_base2(math.ceil(math.log2(n)))[:n] if engine == "Sobol" else drawn.random(n)
    tasks = [
        {**{name: span.at(float(share)) for (name, span), share in zip(ranges.items(), point, strict=True)}, **fixed}
        for point in points
    ]
    return listed(tasks, f"{n} points of a {called} over {', '.join(ranges)} (seed {seed})")


_KINDS: dict[str, Callable[[dict[str, Any], Path, Kwargs], TaskSource]] = {
    "enumerated": _enumerated,
    "cartesian_product": _cartesian,
    "items_x_seeds": _items_x_seeds,
    "numeric_logspace": functools.partial(_numeric, True),
    "numeric_linspace": functools.partial(_numeric, False),
    "from_manifest": _from_manifest,
    "latin_hypercube": functools.partial(_sampled, "LatinHypercube", "latin hypercube"),
    "sobol": functools.partial(_sampled, "Sobol", "Sobol"),
}
