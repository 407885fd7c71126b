"""decide-monitor-arm, the watch's picture, and the pace between looks."""

import io
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hpc_agent.errors import ClusterTimeout, Interrupted, RemoteCommandFailed, SshUnreachable, SubmissionUnknown
from hpc_agent.infra.clusters import Cluster
from hpc_agent.ops.monitor.decide_monitor_arm import Counts, DecideMonitorArmRequest, cron_line, decide_monitor_arm
from hpc_agent.ops.monitor.monitor_flow import SLOWEST_LOCAL_SEC, SLOWEST_SEC, PollInterval
from hpc_agent.ops.run.outage import OUTAGE_SEC, Outage, patiently
from hpc_agent.ops.run.patience import Patience
from hpc_agent.ops.run.run_status import estimates
from hpc_agent.view.live import bar, render
from hpc_agent.view.progress import sentence
from hpc_agent.view.run_view import RunView
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
        pace.saw(False, None)
        seen.append(pace.seconds())
    assert (seen[0], seen[-1]) == (30, SLOWEST_SEC)
    assert seen == sorted(seen)
    pace.saw(True, None)
    assert pace.seconds() == 30


@given(st.floats(1, 90000), st.floats(0, 3000), st.booleans())
def test_an_end_is_never_noticed_late(lasts, queued, known):
    """One task that waits, then runs; ``known``: there is an estimate. A look says how long the task has run."""
    first, walltime = 30.0, 100_000.0
    pace = PollInterval(Cluster(name="c", scheduler="slurm", scratch="/s", min_poll_sec=30))
    now, looks, counts = 0.0, 0, None
    while now < queued + lasts:
        running = now >= queued
        ran = now - queued if running else None
        timing = {
            "left": lasts - ran if known and running else None,
            "longest_ran": ran,
            "walltime_left": walltime - (ran or 0),
        }
        within = estimates({"running": int(running), "pending": int(not running)}, lasts, timing)[1]
        pace.saw(counts != running, within)
        counts = running
        pause = pace.seconds()
        assert first <= pause <= max(SLOWEST_SEC, first)
        now, looks = now + pause, looks + 1
    late = now - (queued + lasts)
    assert late <= max(first, 0.1 * lasts, SLOWEST_SEC if lasts < SLOWEST_SEC and queued > 0 else 0)
    assert looks < 60 + (queued + lasts) / SLOWEST_SEC


@given(st.floats(60, 30 * 86400), st.integers(1, 600))
def test_the_looks_at_a_run_grow_with_the_logarithm_of_its_time(lasts, least):
    """Each look shows progress, and short tasks: alone they would have the cluster's least pause for weeks."""
    pace = PollInterval(Cluster(name="c", scheduler="slurm", scratch="/s", min_poll_sec=least))
    now, looks = 0.0, 0
    while now < lasts:
        pace.saw(True, 6.0, lasts - now)
        assert max(30 * (least >= 30), least) <= pace.seconds() <= max(least, SLOWEST_SEC)
        now, looks = now + pace.seconds(), looks + 1
    assert now - lasts <= least, "the end is noticed in good time"
    assert looks <= 2 + lasts / least
    assert looks <= 3 + lasts / SLOWEST_SEC + 100 * (1 + math.log(300 / min(least, 300))) + 100


def test_a_local_run_is_looked_at_every_few_seconds_at_least():
    pace = PollInterval(Cluster(name="c", scheduler="local", scratch="/s"))
    for _ in range(30):
        pace.saw(False, None)
    assert pace.seconds() == SLOWEST_LOCAL_SEC


def test_a_run_of_an_older_version_has_the_plain_estimate():
    assert estimates({"running": 2, "pending": 4}, 10.0, None) == (30.0, 30.0)
    assert estimates({"running": 0, "pending": 4}, 10.0, None) == (None, None)


def test_no_look_is_advised_after_the_walltime_of_tasks_that_wait():
    timing = {"left": None, "longest_ran": None, "walltime_left": 14400.0}
    assert estimates({"running": 0, "pending": 4}, None, timing) == (None, 300.0)
    assert estimates({"running": 0, "pending": 4}, None, {**timing, "walltime_left": 60.0}) == (None, 60.0)


def failures_until_the_end(error, answered):
    outage, pauses = Outage(), []
    while outage.goes_on(error, answered):
        pauses.append(outage.pause())
    return len(pauses) + 1, sum(pauses), max(pauses, default=0)


def test_an_outage_of_half_an_hour_is_survived_and_an_odd_answer_ten_times():
    looks, seconds, longest = failures_until_the_end(SshUnreachable("x"), False)
    assert seconds >= OUTAGE_SEC - longest and longest == 60 and looks > 10
    assert failures_until_the_end(RemoteCommandFailed("x"), True)[0] == 10
    assert failures_until_the_end(RemoteCommandFailed("x"), False)[0] == 1


def test_a_question_is_asked_until_the_answer_or_the_deadline():
    clock = [0.0]
    world = World(awake=lambda: clock[0], sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    answers = iter([SshUnreachable("a"), ClusterTimeout("b"), SubmissionUnknown("c"), 7])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(world, ask, False, 1000.0) == 7
    answers = iter([SshUnreachable(str(at)) for at in range(99)])
    with pytest.raises(SshUnreachable):
        patiently(world, ask, True, clock[0] + 100)
    assert clock[0] < 14 + 100 + 61


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
    view.ends.clear()
    view.eta = 1000.0 + 7200
    assert f"ends about {time.strftime('%H:%M', time.localtime(8200))}" in picture(view, 80)
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

    def poll(*_):
        return SimpleNamespace(
            run_id="r", lifecycle_state=next(looks), total_tasks=1, last_status=counts, failures_by_cause={}, samples=[],
            next_step="", waiting=[], notes=[], stuck=0, to_submit=0, stale=None, eta_seconds=None, next_look_sec=None,
            counts=lambda: counts, partial_errors=[],
        )  # fmt: skip

    node = SimpleNamespace(cluster=Cluster(name="c", scheduler="local", scratch="/s"))
    run = SimpleNamespace(node=node, record=SimpleNamespace(total_tasks=1, open_resubmit=None))
    monkeypatch.setattr(module, "known_run", lambda *_: run)
    monkeypatch.setattr(module, "ask_status", poll)
    monkeypatch.setattr(module.FollowUp, "act", lambda *_: False)
    world = World(now=lambda: clock["now"], awake=lambda: clock["awake"], sleep=sleep)
    ended = module.monitor_flow(module.MonitorFlowRequest(wall_clock_budget_sec=3600), world)
    assert (ended.lifecycle_state, ended.ticks) == ("complete", 2)


def test_the_estimate_is_shown_with_the_progress():
    assert sentence("status", {"total": 4, "complete": 1, "running": 3, "eta_seconds": 600.0}).endswith(
        "3 running, about 10 min left"
    )
    assert "left" not in sentence("status", {"total": 4, "complete": 1, "eta_seconds": None})


def test_the_pause_of_a_watch_is_spent_on_the_cluster():
    """Not before the first look, nor after a failed one; what a cluster did not wait is waited here."""
    slept = []
    patience = Patience(World(sleep=slept.append, hold_sec=30.0))
    assert patience.question() == {}
    patience.saw({}, 0)
    patience.pause(100.0)
    assert patience.question() == {"wait_sec": 30.0, "seen_ended": 0}
    patience.saw({"waited": 12.0}, 4)  # four tasks ended: news
    patience.pause(20.0)
    assert patience.question() == {"wait_sec": 20.0, "seen_ended": 4}
    patience.saw({}, 4)  # a run of an older version does not wait
    patience.pause(20.0, answered=False)
    assert patience.question() == {}
    assert [seconds for seconds in slept if seconds] == [70.0, 40.0]


def test_a_watch_that_was_stopped_while_the_cluster_waited_acts_on_nothing():
    def stopped(seconds):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        Patience(World(sleep=stopped)).saw({"waited": 1.0}, 1)
