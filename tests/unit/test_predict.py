"""What a task will need, from what earlier ones used."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.ops.run.checks import check_history
from hpc_agent.ops.run.evidence import from_rows, predict
from hpc_agent.ops.submit.verify_canary import warnings


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
    assert found.time.walltime_sec(1) >= (max(values) if few else sorted(values)[len(values) // 2])
    assert found.time.task_sec >= found.time.worst_sec * 1.25 * 0.999
    assert found.time.walltime_sec(3) >= found.time.walltime_sec(1)


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
    assert found.time.origin == "measured: 1 s at most, by 8 tasks of r; with a margin of 50%"
    assert found.mem_mb == 160  # 100 MiB and half of it, in steps of 16


def ended(value, kind="walltime", metric="seconds", **kwargs):
    """The row of a task that failed after this much."""
    return {f"{metric}_at_least": value, "class": kind, "kwargs": kwargs, "run_id": "r"}


def test_a_limit_that_was_reached_is_a_lower_bound():
    found = from_rows([*rows([10.0] * 8), ended(300.0)], [{}])
    assert (found.time.worst_sec, found.time.walltime_sec(1)) == (pytest.approx(300), 660)
    assert (
        found.time.origin == "measured: at least 300 s, where 1 task failed; beside 8 tasks of r; with a margin of 100%"
    )
    memory = from_rows([*rows([10.0] * 8), ended(4096.0, "out_of_memory", "max_rss_mb")], [{}])
    assert (memory.mem_mb, memory.time.worst_sec) == (8192, pytest.approx(10))


def test_a_bound_is_scaled_by_the_parameter_that_explains_the_others():
    measured = [*rows([float(i + 1) for i in range(12)], n=lambda i: i + 1), ended(600.0, n=100)]
    small, large = (from_rows(measured, [{"n": n}]).time.worst_sec for n in (2, 100))
    assert (small < 20, large >= 600) == (True, True)
    assert from_rows([*rows([1.0] * 8), ended(50.0, n=7)], [{"n": 7}]).time.worst_sec == pytest.approx(50)


@pytest.mark.parametrize(("kind", "known"), [("walltime", True), ("code_error", False), ("out_of_memory", False)])
def test_without_a_complete_task_only_a_limit_is_evidence(kind, known):
    found = from_rows([ended(120.0, kind)], [{}])
    assert (found is not None and found.time.worst_sec == pytest.approx(120)) is known
    only_memory = from_rows([ended(2048.0, "out_of_memory", "max_rss_mb")], [{}])
    assert (only_memory.time, only_memory.mem_mb) == (None, 4096)
    assert [finding.code for finding in check_history(60, only_memory)] == ["no_history"]


def test_a_program_that_failed_early_says_nothing_new():
    assert from_rows([*rows([10.0] * 8), ended(2.0, "code_error")], [{}]) == from_rows(rows([10.0] * 8), [{}])


def test_at_most_is_said_of_a_maximum_only():
    assert "10 s at most, by 8 tasks" in from_rows(rows([10.0] * 8), [{}]).time.origin
    many = from_rows(rows([float(i % 7 + 1) for i in range(40)]), [{}]).time
    assert many.origin == "measured: 7 s or less in 95% of 40 tasks of r; with a margin of 25%"
    scaled = from_rows(rows([2000.0 * (i + 1) for i in range(12)], n=lambda i: i + 1), [{"n": 12}]).time
    assert scaled.origin == "predicted: 24000 s by n^1.0, from 12 tasks of r; with a margin of 50%"


@given(
    st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40), st.integers(1, 500), st.integers(1, 10**6), st.booleans()
)
def test_the_check_of_a_walltime_and_its_advice_agree(values, pack, asked, killed):
    found = from_rows([*rows(values), *([ended(max(values) * 2)] if killed else [])], [{}])
    for finding in check_history(asked, found, pack):
        advice = int(finding.suggested_fix.split()[3].rstrip(","))
        assert check_history(advice, found, pack) == []
        assert (advice > asked) == (finding.code in ("walltime_too_short", "walltime_tight"))


def test_the_reported_pack():
    """300 s was refused, with the advice to ask for 240 s."""
    found = from_rows(rows([1.0] * 19 + [31.0]), [{}])
    assert check_history(300, found, 10) == []
    (finding,) = check_history(5, found, 10)
    assert finding.code == "walltime_too_short"


def test_an_advice_above_the_limit_is_not_given():
    (finding,) = check_history(100, from_rows(rows([90.0] * 8), [{}]), 10, ceiling=600)
    assert "--walltime-sec" not in finding.suggested_fix
    assert "fewer tasks with --pack" in finding.suggested_fix


@pytest.mark.parametrize(("seconds", "advised"), [(0.3, 0), (59.0, 0), (61.0, 2)])
def test_a_canary_of_a_moment_is_no_ground_for_less(seconds, advised):
    seen = {"failure": None, "metrics": {"y": 1}, "measured": {"seconds": seconds, "max_rss_mb": 10.0, "oom_kills": None},
            "metrics_left_out": None, "asked": {"walltime_sec": 14400, "mem_mb": 4000}}  # fmt: skip
    assert sum("generous" in text for text in warnings(seen)) == advised
    tight = {**seen, "asked": {"walltime_sec": 14400, "mem_mb": 10}}
    assert any("memory is tight" in text for text in warnings(tight))


def test_one_short_task_is_no_ground_against_a_long_walltime():
    assert check_history(14400, from_rows(rows([0.3]), [{}])) == []
    assert [finding.code for finding in check_history(14400, from_rows(rows([0.3] * 5), [{}]))] == ["walltime_generous"]
