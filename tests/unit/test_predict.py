"""What a task will need, from what earlier ones used."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.ops.run.evidence import from_rows, predict


def rows(values, **names):
    return [{"seconds": value, "max_rss_mb": 100.0, "kwargs": {name: of(i) for name, of in names.items()}, "run_id": "r"}
            for i, value in enumerate(values)]  # fmt: skip


def test_nothing_measured_is_no_evidence():
    assert predict([], "seconds", [{}]) is None
    assert predict([{"kwargs": {}, "seconds": 0}], "seconds", [{}]) is None
    assert from_rows([], [{}]) is None


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=60))
def test_the_ask_is_never_below_what_was_seen_of_few_tasks(values):
    found = from_rows(rows(values), [{}])
    few = len(values) < 20
    assert found.walltime_sec(1) >= (max(values) if few else sorted(values)[len(values) // 2])
    assert found.task_sec >= found.worst_sec * 1.25 * 0.999
    assert found.walltime_sec(3) >= found.walltime_sec(1)


def test_a_number_that_clearly_predicts_is_followed():
    noise = random.Random(1)
    measured = rows(
        [2.0 * (i + 1) ** 2 * noise.uniform(0.95, 1.05) for i in range(12)], n=lambda i: i + 1, seed=lambda i: i % 3
    )
    small, large = (
        predict(measured, "seconds", [{"n": 2, "seed": 0}]),
        predict(measured, "seconds", [{"n": 24, "seed": 0}]),
    )
    assert 8 <= small.worst <= 10
    assert 1100 <= large.worst <= 1400  # 2 * 24 ** 2 = 1152
    assert large.by.startswith("n^2.0")
    assert not large.beyond
    assert predict(measured, "seconds", [{"n": 100, "seed": 0}]).beyond


def test_a_category_that_clearly_predicts_is_followed():
    measured = rows([1.0 if i % 2 else 50.0 for i in range(12)], model=lambda i: "ridge" if i % 2 else "boost")
    assert predict(measured, "seconds", [{"model": "ridge"}]).worst < 1.1
    assert predict(measured, "seconds", [{"model": "ridge"}, {"model": "boost"}]).worst >= 49
    unknown = predict(measured, "seconds", [{"model": "new"}])
    assert (round(unknown.worst), unknown.beyond) == (50, True)


def test_both_together():
    measured = rows([(10 if i % 2 else 1) * (i // 2 + 1) for i in range(20)], model=lambda i: "slow" if i % 2 else "fast",
                    n=lambda i: i // 2 + 1)  # fmt: skip
    found = predict(measured, "seconds", [{"model": "slow", "n": 20}])
    assert 190 <= found.worst <= 210
    assert "model and n" in found.by


def test_noise_is_not_taken_for_a_law():
    noise = random.Random(2)
    measured = rows([math.exp(noise.gauss(0, 1)) for _ in range(40)], n=lambda i: i + 1, seed=lambda i: i % 4)
    found = predict(measured, "seconds", [{"n": 4000, "seed": 1}])
    assert (found.by, found.beyond) == ("", False)
    assert found.worst <= max(row["seconds"] for row in measured)


def test_the_origin_says_how_many_of_which_run():
    found = from_rows(rows([1.0] * 8), [{}])
    assert found.time_origin == "measured: 1 s at most, by 8 tasks of r; with a margin of 50%"
    assert found.mem_mb == 160  # 100 MiB and half of it, in steps of 16
