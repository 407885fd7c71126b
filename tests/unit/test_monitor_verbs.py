"""decide-monitor-arm, the watch's picture, and the pace between looks."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hpc_agent.infra.clusters import Cluster
from hpc_agent.ops.monitor.decide_monitor_arm import Counts, DecideMonitorArmRequest, cron_line, decide_monitor_arm
from hpc_agent.ops.monitor.monitor_flow import SLOWEST_SEC, PollInterval
from hpc_agent.view.live import RunView, bar, render
from hpc_agent.world import World


def decide(total=10, loop=False, counts=None, **facts):
    summary = Counts(**(counts or {"running": 5, "pending": 5}))
    request = DecideMonitorArmRequest(
        run_id="r", summary=summary, total_tasks=total, user_invoked_via_loop=loop, **facts
    )
    return decide_monitor_arm(request, World())


@pytest.mark.parametrize(
    ("facts", "cadence", "schedule"),
    [
        ({"queue_wait_sec": 4000}, 3600, "0 */1 * * *"),
        ({"queue_wait_sec": 1900}, 1800, "*/30 * * * *"),
        ({"eta_sec": 300}, 60, "* * * * *"),
        ({"eta_sec": 900}, 180, "*/3 * * * *"),
        ({"eta_sec": 900, "pace_unstable": True}, 90, "*/2 * * * *"),
        ({"eta_sec": 9000}, 270, "*/5 * * * *"),
        ({"eta_sec": 9000, "pace_unstable": True}, 90, "*/2 * * * *"),
        ({"counts": {"pending": 10}}, 1800, "*/30 * * * *"),
        ({}, 90, "*/2 * * * *"),
    ],
)
def test_cadence(facts, cadence, schedule):
    decided = decide(**facts)
    assert (decided.arm, decided.cadence_sec, decided.schedule) == ("cron", cadence, schedule)
    assert decide(loop=True, **facts).arm == "loop"


@pytest.mark.parametrize("counts", [{"complete": 10}, {"complete": 8, "failed": 2}])
def test_nothing_is_armed_for_what_has_ended(counts):
    assert decide(counts=counts).arm == "none"
    assert decide(counts=counts, loop=True).arm == "none"
    assert decide(total=0, counts={}).arm == "none"


@given(st.integers(1, 90000))
def test_a_cron_line_never_comes_too_often(cadence):
    minute, hour, *rest = cron_line(cadence).split()
    assert rest == ["*", "*", "*"]
    every = 3600 * int(hour[2:]) if hour != "*" else 60 * int(minute[2:] or 1) if minute != "*" else 60
    assert every >= min(cadence, every) and (every >= cadence or cadence < 60)


def test_looks_become_rarer_and_never_too_frequent():
    pace = PollInterval(Cluster(name="c", scheduler="slurm", scratch="/s", min_poll_sec=30), 5)
    seen = []
    for _ in range(9):
        pace.saw(changed=False)
        seen.append(pace.seconds())
    assert (seen[0], seen[-1]) == (30, SLOWEST_SEC)
    assert seen == sorted(seen)
    pace.saw(changed=True)
    assert pace.seconds() == 30
    assert [pace.missed() for _ in range(10)] == [False] * 9 + [True]


def picture(view, width, now=1000.0):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render([view], now, width))
    return console.file.getvalue()


COUNTS = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 5000) for name in ("complete", "running", "pending", "failed", "unknown")}
)


@given(COUNTS, st.integers(0, 30), st.integers(50, 200))
def test_the_picture_fits_whatever_the_numbers(counts, waves, width):
    view = RunView(
        "a-run-with-a-name-that-is-rather-long-1a2b3c4d", "discovery", sum(counts.values()) + 1, counts=counts
    )
    view.waves = {str(wave): counts for wave in range(waves)}
    view.waiting = [{"count": 7, "sentence": "waits " * 40, "passes": False}] * 5
    view.causes = {"out_of_memory": 12, "timeout": 3}
    view.checked_at, view.state = 990.0, "in_flight"
    lines = picture(view, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 26
    assert "out_of_memory" in "".join(lines)
    assert bar(counts, view.total, width).cell_len == width


def test_pace_end_and_stale_are_told():
    view = RunView("r", "c", 100, state="in_flight", counts={"complete": 50, "running": 10}, checked_at=995.0)
    view.ends.extend([(900.0, 0), (1000.0, 50)])
    assert "30 tasks/min, ends about" in picture(view, 80)
    view.stale = "squeue: no answer"
    assert "stale: squeue: no answer" in picture(view, 80)


def test_the_budget_of_a_watch_counts_the_time_awake(monkeypatch):
    """The machine sleeps for a day in the first pause; the second look sees the end."""
    from types import SimpleNamespace

    from hpc_agent.ops.monitor import monitor_flow as module

    clock = {"now": 1e9, "awake": 0.0}

    def sleep(seconds):
        clock["now"] += 86400 + seconds
        clock["awake"] += seconds

    counts = dict.fromkeys(("complete", "running", "pending", "failed", "unknown"), 0)
    looks = iter(["in_flight", "complete"])

    def poll(_):
        return SimpleNamespace(
            run_id="r", lifecycle_state=next(looks), total_tasks=1, last_status=counts, failures_by_cause={}, samples=[],
            next_step="", waiting=[], stuck=0, stale=None, counts=lambda: counts, partial_errors=[],
        )  # fmt: skip

    node = SimpleNamespace(cluster=Cluster(name="c", scheduler="local", scratch="/s"))
    run = SimpleNamespace(node=node, record=SimpleNamespace(total_tasks=1, open_resubmit=None))
    monkeypatch.setattr(module, "known_run", lambda *_: run)
    monkeypatch.setattr(module, "ask_status", poll)
    monkeypatch.setattr(module.FollowUp, "act", lambda *_: False)
    world = World(now=lambda: clock["now"], awake=lambda: clock["awake"], sleep=sleep)
    ended = module.monitor_flow(module.MonitorFlowRequest(wall_clock_budget_sec=3600), world)
    assert (ended.lifecycle_state, ended.ticks) == ("complete", 2)
