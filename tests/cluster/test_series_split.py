"""A long series in fifty tasks for each pattern: joined, it is the unsplit answer to the last digit.

With HPC_TEST_WHOLE_SERIES=1 it has a million rows and runs on every scheduler (some minutes of both cores); else a tenth of
that, on the local one.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import random
import shlex
from pathlib import Path

import pytest
from experiment import aggregate, make_repo, submit, watch

import hpc_agent
from hpc_agent.experiment_kit.series import MAX, MIN, MOMENTS, SUM, first_difference, join, plan_tasks

pytestmark = pytest.mark.usefixtures("clusters_file")
WHOLE = os.environ.get("HPC_TEST_WHOLE_SERIES") == "1"
ROWS = 1_000_000 if WHOLE else 100_000
WHERE = ["local", "slurm-ssh", "sge-ssh"] if WHOLE else ["local"]
CHUNKS = 50
AXES = {
    "rolling": ({"window": 20}, {"kind": "bounded_halo", "halo": "window - 1"}),
    "numpy": ({"window": 30}, {"kind": "bounded_halo", "halo": "window - 1"}),
    "stencil": ({"lag": 3, "lead": 2}, {"kind": "bounded_halo", "halo": "lag", "ahead": "lead"}),
    "average": ({"alpha": 0.1}, {"kind": "bounded_halo", "halo": "89 // alpha + 1"}),
    "each": ({}, {"kind": "independent"}),
    "cumulative": ({}, {"kind": "associative", "monoid": "sum"}),
    "extreme": ({}, {"kind": "associative", "monoid": "max"}),
    "total": ({}, {"kind": "associative", "monoid": "moments", "halo": 1}),
}
EXECUTOR = """
import json
import math
import os
from collections import deque

from hpc_agent.experiment_kit.series import MAX, MIN, MOMENTS, SUM, active_slice, load_series, trim_emission


def rolling(rows, window):
    last, mean, high, spread = deque(maxlen=window), [], [], []
    for value in rows:
        last.append(value)
        mean.append(sum(last) / len(last))
        high.append(max(last))
        spread.append(math.fsum(abs(v - mean[-1]) for v in last))
    return trim_emission({"mean": mean, "high": high, "spread": spread})


def numpy(rows, window):
    import numpy as np

    out = np.full(len(rows), np.nan)
    out[window - 1 :] = np.lib.stride_tricks.sliding_window_view(np.array(rows), window).std(axis=1)
    return trim_emission(out).tolist()


def stencil(rows, lag, lead):
    last = len(rows) - 1
    return trim_emission([rows[max(i - lag, 0)] - 2 * rows[i] + rows[min(i + lead, last)] for i in range(len(rows))])


def average(rows, alpha):
    value, out = rows[0], []
    for row in rows:
        value = alpha * row + (1 - alpha) * value
        out.append(value)
    return trim_emission(out)


def each(rows):
    return trim_emission([math.sin(row) for row in rows])


def cumulative(rows):
    return {"sum": SUM.cumulative(rows), "mean": MOMENTS.cumulative(rows, "mean")}


def extreme(rows):
    high, out = rows[0], []
    for row in rows:
        high = max(high, row)
        out.append(high)
    return MAX.cumulative(out)


def total(rows):
    change = trim_emission([0.0] + [b - a for a, b in zip(rows, rows[1:])])
    return {monoid.name: monoid.of(change) for monoid in (SUM, MOMENTS, MIN, MAX)}


def run(pattern, **params):
    return globals()[pattern](load_series("series.jsonl"), **params)


if __name__ == "__main__":
    kwargs = json.loads(os.environ["HPC_KW_JSON"])
    params = {name: kwargs[name] for name in ("pattern", "window", "lag", "lead", "alpha") if name in kwargs}
    values = run(**params)
    folder = os.environ["HPC_RESULT_DIR"]
    with open(os.path.join(folder, "part.json"), "w") as handle:
        json.dump({"start": active_slice().start, "values": values}, handle)
    metrics = {"rows": kwargs["end"] - kwargs["start"]}
    if params["pattern"] == "total":
        metrics["change"] = SUM.metric(values["sum"])
        metrics["high"] = MAX.metric(values["max"])
    with open(os.path.join(folder, "metrics.json"), "w") as handle:
        json.dump(metrics, handle)
"""


def series() -> list[float]:
    """Prices that wander over several powers of two, with large and small steps."""
    rng = random.Random(7)
    price, found = 100.0, []
    for _ in range(ROWS):
        price = abs(price + rng.gauss(0, 0.02) * price ** rng.choice((0.5, 1.0))) + 1e-3
        found.append(round(price, rng.choice((2, 4, 9))))
    return found


def unsplit(repo: Path, monkeypatch):
    """The executor's ``run``, as its author would call it: in the repo, on the whole series."""
    spec = importlib.util.spec_from_file_location("split_by_hand", repo / "split.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(repo)
    monkeypatch.delenv("HPC_KW_JSON", raising=False)
    return module.run


def check(pattern: str, whole, parts, rows: list[float]) -> None:
    if pattern != "total":
        assert first_difference(join([(0, whole)], ROWS), join(parts, ROWS)) is None, pattern
        return
    ordered = [part["values"] for part in sorted(parts, key=lambda part: part["start"])]
    for monoid in (SUM, MOMENTS, MIN, MAX):
        merged = monoid.merge(part[monoid.name] for part in ordered)
        assert merged == whole[monoid.name]
        assert first_difference(monoid.value(merged), monoid.value(whole[monoid.name])) is None
    changes = [0.0, *(b - a for a, b in itertools.pairwise(rows))]
    assert SUM.value(SUM.merge(part["sum"] for part in ordered)) == math.fsum(changes)


@pytest.mark.parametrize("site", WHERE, indirect=True)
@pytest.mark.slow(reason="fifty tasks for each pattern of a series, each an element that imports numpy")
@pytest.mark.timeout(1800)
def test_fifty_tasks_give_the_unsplit_answer(site, run_cli, tmp_path, monkeypatch, clusters_file):
    if site.name == "local":  # its tasks import the kit from this checkout
        (tmp_path / "init.sh").write_text(
            f"export PYTHONPATH={shlex.quote(str(Path(hpc_agent.__file__).parents[1]))}\n"
        )
        clusters_file.write_text(site.clusters_yaml(shell_init=str(tmp_path / "init.sh")))
    tasks = []
    for pattern, (params, axis) in AXES.items():
        # numpy's windows need the Python that has it; everything else is the standard library of the node's own.
        python = site.science_python if pattern == "numpy" else site.cluster["python"]
        tasks += plan_tasks([{**params, "pattern": pattern, "interpreter": python}], axis, CHUNKS, ROWS)
    assert len(tasks) == CHUNKS * len(AXES)
    rows = series()
    repo = make_repo(tmp_path / "repo", tasks, **{"split.py": EXECUTOR})
    (repo / "series.jsonl").write_text("".join(f"{row!r}\n" for row in rows))
    words = ("--mem-mb", "2000", "--pack", "10")
    sent = submit(run_cli, repo, '"$HPC_KW_INTERPRETER" split.py', *words, timeout=300)
    seen = watch(run_cli, repo, 1200)
    assert seen["lifecycle_state"] == "complete", run_cli("failures", "--full", cwd=repo).data["clusters"]
    results = Path(sent["remote_path"]) / "results"
    run = unsplit(repo, monkeypatch)
    for number, (pattern, (params, _)) in enumerate(AXES.items()):
        own = range(number * CHUNKS, (number + 1) * CHUNKS)
        parts = [json.loads((results / str(task) / "part.json").read_text()) for task in own]
        whole = run(pattern, **params)
        check(pattern, whole, parts, rows)
        if pattern == "cumulative":
            sums = join(parts)["sum"]
            ends = [*range(0, ROWS, 49_999), *(part["start"] for part in parts), ROWS - 1]
            assert [sums[row] for row in ends] == [math.fsum(rows[: row + 1]) for row in ends]
    table = aggregate(run_cli, repo, "--over", "start,end,halo,ahead,interpreter")
    metrics = {row["kwargs"]["pattern"]: row["metrics"] for row in table["rows"]}
    assert {name: facts["rows"]["sum"] for name, facts in metrics.items()} == dict.fromkeys(AXES, ROWS)
    changes = [0.0, *(b - a for a, b in itertools.pairwise(rows))]
    assert metrics["total"]["change"]["sum"] == math.fsum(changes)
    assert metrics["total"]["high"]["max"] == max(changes)
