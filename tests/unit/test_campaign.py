"""Campaigns without a cluster: the journal, replays of every strategy, the reasons to stop."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import subprocess
import sys
from importlib import metadata

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.campaign import strategies
from hpc_agent.campaign.journal import Ask, CampaignJournal, History, Stopped, Submitted, Tell, event_of, fold
from hpc_agent.campaign.manifest import AbortIf, Manifest, check_manifest, read_manifest, write_manifest
from hpc_agent.campaign.space import coordinate_of, every_value, points, size, value_at
from hpc_agent.campaign.step import AskNow, Stop, Submit, Wait, next_step, tell_of
from hpc_agent.campaign.stopping import converged, decision, exhausted, remaining, spent_of
from hpc_agent.campaign.strategies.common import results, stream
from hpc_agent.campaign.strategies.simple import halton_point
from hpc_agent.errors import JournalCorrupt, NeedsResolution, SchemaIncompat, SpecInvalid
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

SPACE = {
    "lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "depth": {"type": "int", "low": 1, "high": 12},
    "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
}
# Steps that are not exact in binary: 3 * 0.3 is less than 0.9, 3 * 0.1 and 7 * 0.1 are more than 0.3 and 0.7.
STEPS = {
    "lr": SPACE["lr"],
    "depth": {"type": "float", "low": 0.1, "high": 1, "step": 0.3},
    "drop": {"type": "float", "low": 0, "high": 0.7, "step": 0.1},
}
LOSS = [{"name": "loss"}]
CASES = {
    "grid": {"strategy": {"name": "grid", "params": {"points": 3, "rounds": 4}}},
    "random": {"strategy": {"name": "random"}},
    "quasi_random": {"strategy": {"name": "quasi_random"}},
    "tpe": {"strategy": {"name": "tpe", "params": {"startup": 5}}},
    "tpe, categories": {
        "strategy": {"name": "tpe", "params": {"startup": 5}},
        "space": {**SPACE, "kind": {"type": "categorical", "values": ["a", 1, 1.5, True, None]}},
    },
    "tpe, two metrics": {
        "strategy": {"name": "tpe", "params": {"startup": 5}},
        "metrics": [{"name": "loss"}, {"name": "speed", "direction": "maximize"}],
    },
    "tpe, constraint, worst": {
        "strategy": {"name": "tpe", "params": {"startup": 5}},
        "constraints": [{"metric": "size", "at_most": 8}],
        "failed_trials": "worst",
    },
    "cma_es": {"strategy": {"name": "cma_es"}},
    "cma_es, constraint": {"strategy": {"name": "cma_es"}, "constraints": [{"metric": "size", "at_most": 8}]},
    "tpe, steps": {"strategy": {"name": "tpe", "params": {"startup": 5}}, "space": STEPS},
    "cma_es, steps": {"strategy": {"name": "cma_es", "params": {"population": 4}}, "space": STEPS},
    "halving": {"strategy": {"name": "halving", "params": {"resource": "epochs", "max": 9}}},
    "again": {"strategy": {"name": "quasi_random"}, "failed_trials": "again"},
}
NEEDS = {"tpe": "optuna", "cma_es": "cmaes"}
EVERY = pytest.mark.parametrize("case", CASES)


def manifest_of(**parts) -> Manifest:
    document = {"campaign_id": "c", "space": SPACE, "metrics": LOSS, "batch": 6, "seed": 3, **parts}
    if library := NEEDS.get(document.get("strategy", {}).get("name")):
        pytest.importorskip(library)
    return check_manifest(msgspec.convert(document, Manifest))


def measured(params: dict) -> dict:
    """A smooth loss with its best near lr 1e-3 and depth 6; one point in nine fails."""
    loss = (math.log10(params["lr"]) + 3) ** 2 + (params["depth"] - 6) ** 2 / 9 + params["drop"]
    loss += 0.0 if params.get("kind", "a") == "a" else 1.0
    if int(loss * 1e6) % 9 == 0:
        return {}
    return {"loss": loss / params.get("epochs", 1), "speed": -params["depth"] + params["lr"], "size": params["depth"]}


class Kill(Exception):
    """The client dies."""


class Campaign:
    """A driver in memory: the lines of the journal, and the simulated cluster that outlives it."""

    def __init__(self, manifest: Manifest, rng: random.Random | None = None) -> None:
        self.manifest, self.rng = manifest, rng
        self.lines: list[dict] = []
        self.clock = 0.0

    def history(self) -> History:
        return fold(self.lines)

    def write(self, line, kill_at: int | None = None) -> None:
        if kill_at == len(self.lines):
            raise Kill
        self.clock += 1
        self.lines.append(event_of(line, self.clock))

    def tick(self, kill_at: int | None = None) -> bool:
        """One tick of a driver. False when the campaign has stopped."""
        history = self.history()
        ended = [trial for trial in history.open_trials if trial.state == "submitted"]
        if self.rng:  # asynchronous: some of them end, in any order
            self.rng.shuffle(ended)
            ended = ended[: self.rng.randint(0, len(ended))]
        for trial in ended:
            metrics = measured(trial.params)
            self.write(tell_of(self.manifest, trial, "complete", metrics, seconds=2.0, cpus=3), kill_at)
        while True:
            match next_step(self.manifest, self.history(), self.clock):
                case AskNow(asks):
                    for line in asks:
                        self.write(line, kill_at)
                case Submit(iteration, trials, tasks):
                    assert tasks == [self.history().trials[number].params for number in trials]
                    self.write(Submitted(iteration=iteration, run_id=f"run-{iteration}", trials=trials), kill_at)
                case Wait():
                    return True
                case Stop(line=line):
                    if not self.history().stopped:
                        self.write(line, kill_at)
                    return False

    def run(self, kill_at: int | None = None) -> list[dict]:
        while self.tick(kill_at):
            assert len(self.lines) < 5000
        return self.identity()

    def identity(self) -> list[dict]:
        """The lines without their times."""
        return [{name: value for name, value in line.items() if name != "at"} for line in self.lines]


@EVERY
def test_a_replay_of_any_prefix_asks_the_same(case):
    """Batch: the journal is cut before every ask, folded anew, and asked for the rest of the batch."""
    manifest = manifest_of(**CASES[case], budget={"max_tasks": 30})
    campaign = Campaign(manifest)
    campaign.run()
    assert sum(line["event"] == "ask" for line in campaign.lines) == 30
    for number, line in enumerate(campaign.identity()):
        if line["event"] == "ask":
            again = strategies.ask(manifest, fold(json.loads(json.dumps(campaign.lines[:number]))), 1)[0]
            assert {"event": "ask", **msgspec.to_builtins(again)} == line


@EVERY
def test_killed_before_every_line_the_trials_are_the_same(case):
    manifest = manifest_of(**CASES[case], budget={"max_tasks": 24})
    whole = Campaign(manifest).run()
    for kill_at in range(0, len(whole), 1 if case == "quasi_random" else 13):
        campaign = Campaign(manifest)
        with pytest.raises(Kill):
            campaign.run(kill_at=kill_at)
        campaign.lines = json.loads(json.dumps(campaign.lines))
        assert campaign.run() == whole


@EVERY
@settings(max_examples=3)
@given(seed=st.integers(0, 10**6))
def test_any_order_of_ends_replays(case, seed):
    """Asynchronous: no trial twice, none lost, and the order of events decides every ask."""
    facts = {"mode": "async", "width": 5, "ahead": 4, "budget": {"max_tasks": 28}}
    manifest = manifest_of(**CASES[case], **facts)
    campaign = Campaign(manifest, random.Random(seed))
    campaign.run()
    asked = [line["trial"] for line in campaign.lines if line["event"] == "ask"]
    assert asked == list(range(len(asked)))
    assert sorted(line["trial"] for line in campaign.lines if line["event"] == "tell") == asked
    assert campaign.history().stopped
    for number, line in enumerate(campaign.identity()):
        if line["event"] == "ask":
            again = strategies.ask(manifest, fold(campaign.lines[:number]), 1)[0]
            assert {"event": "ask", **msgspec.to_builtins(again)} == line


def test_an_asynchronous_campaign_submits_arrays_of_several_trials():
    manifest = manifest_of(mode="async", width=8, ahead=4, budget={"max_tasks": 80})
    campaign = Campaign(manifest, random.Random(1))
    campaign.run()
    sizes = [len(line["trials"]) for line in campaign.lines if line["event"] == "submitted"]
    assert sum(sizes) == 80
    assert min(sizes[:-1]) >= 2, sizes
    open_now = most = 0
    for line in campaign.lines:
        open_now += {"ask": 1, "tell": -1}.get(line["event"], 0)
        most = max(most, open_now)
    assert most == 12


def test_the_journal_cut_at_every_byte_is_a_prefix(tmp_path):
    """And the next append cuts off the torn line; nothing that was acknowledged is lost."""
    manifest = manifest_of(failed_trials="again", budget={"max_tasks": 10})
    campaign = Campaign(manifest)
    campaign.run()
    world = World(cwd=tmp_path, now=lambda: 5.0)
    journal = CampaignJournal(world, RepoLayout(tmp_path), "c")
    assert journal.history() == History()
    for line in campaign.lines:
        journal.append(
            msgspec.convert(line, {"ask": Ask, "submitted": Submitted, "tell": Tell, "stopped": Stopped}[line["event"]])
        )
    whole = journal.path.read_bytes()
    events = journal.events()
    assert [{k: v for k, v in event.items() if k != "at"} for event in events] == campaign.identity()
    prefixes = [fold(events[:number]) for number in range(len(events) + 1)]
    for size_now in range(len(whole) + 1):
        journal.path.write_bytes(whole[:size_now])
        assert journal.history() == prefixes[whole[:size_now].count(b"\n")]
    journal.path.write_bytes(whole[:-3])
    journal.append(Stopped(reason="budget", detail="again"))
    assert journal.events()[:-1] == events[:-1]


@given(st.lists(st.sampled_from(["ask", "submit", "tell", "tell again", "adopt"]), max_size=40), st.randoms())
def test_the_fold_keeps_its_laws(moves, rng):
    """Every trial is open or told once; repeated lines of an adopted submission or a second tell change nothing."""
    lines, number = [], 0

    def write(line):
        lines.append(event_of(line, 0.0))

    for move in moves:
        history = fold(lines)
        if move == "ask":
            write(Ask(trial=number, iteration=0, params={"x": number}, origin="random"))
            number += 1
        elif move == "submit" and history.unsubmitted:
            trials = [trial.number for trial in history.unsubmitted]
            write(Submitted(iteration=0, run_id=f"run-{trials[0]}", trials=trials))
        elif move == "tell" and history.open_runs:
            trial = rng.choice([one for numbers in history.open_runs.values() for one in numbers])
            write(Tell(trial=trial, state="complete", values={"loss": rng.random()}))
        elif move == "tell again" and history.tells:
            write(Tell(trial=rng.choice(history.tells), state="failed"))
            assert fold(lines) == history
        elif move == "adopt" and history.runs:
            write(next(Submitted(**{k: v for k, v in one.items() if k in ("iteration", "run_id", "trials")})
                       for one in lines if one["event"] == "submitted"))  # fmt: skip
            assert fold(lines) == history
    history = fold(lines)
    assert len(history.trials) == number
    assert sorted(history.tells) == sorted(trial.number for trial in history.trials if not trial.is_open)
    assert len(set(history.tells)) == len(history.tells)
    assert history.jobs == len(history.runs)


def test_lines_that_do_not_fit_are_corruption():
    ask = {"event": "ask", "trial": 0, "iteration": 0, "params": {}, "origin": "random"}
    for wrong in (
        [ask, ask],
        [{**ask, "trial": 3}],
        [ask, {"event": "tell", "trial": 5, "state": "complete"}],
        [ask, {"event": "tell", "trial": 0, "state": "happy"}],
        [ask, {"event": "submitted", "iteration": 0, "run_id": "r", "trials": [-1]}],
    ):
        with pytest.raises(JournalCorrupt):
            fold(wrong)
    assert fold([ask, {"event": "of a later version"}]) == fold([ask])


# --- the six reasons to stop


def told(losses, batch=1, **parts):
    """Manifest and history of a campaign whose iterations had these losses; None for a failed trial."""
    manifest = manifest_of(batch=batch, strategy={"name": "random"}, **parts)
    lines = []
    for number, loss in enumerate(losses):
        params = {"lr": 1e-3, "depth": 1, "drop": 0.0}
        lines.append(Ask(trial=number, iteration=number // batch, params=params, origin="random"))
        lines.append(Submitted(iteration=number // batch, run_id=f"r{number}", trials=[number]))
        state = "failed" if loss is None else "complete"
        values = {} if loss is None else {"loss": loss}
        lines.append(Tell(trial=number, state=state, values=values, seconds=1800.0, cpus=4))
    return manifest, fold([event_of(line, 100.0) for line in lines])


def reason(losses, now=100.0, **parts):
    manifest, history = told(losses, **parts)
    found = decision(manifest, history, spent_of(history, now))
    return found.decision, found.reason


def test_target():
    assert reason([3, 2, 1], stop_criteria={"target": 1}) == ("stop_converged", "target")
    assert reason([3, 2, 1.1], stop_criteria={"target": 1}) == ("continue", "")
    up = [{"name": "loss", "direction": "maximize"}]
    assert reason([3, 2, 1], metrics=up, stop_criteria={"target": 2.5}) == ("stop_converged", "target")
    assert reason([2, 1], metrics=up, stop_criteria={"target": 2.5}) == ("continue", "")
    # a target that the last trial of the budget reached is a target
    assert reason([3, 1], stop_criteria={"target": 1}, budget={"max_tasks": 2}) == ("stop_converged", "target")


def test_plateau_in_both_modes():
    best = {"plateau_window": 2, "plateau_mode": "all_time_best"}
    assert reason([1, 3], stop_criteria=best) == ("continue", "")  # window + 1 iterations are needed
    assert reason([1, 3, 2], stop_criteria=best) == ("stop_converged", "plateau")
    assert reason([3, 2, 1], stop_criteria=best) == ("continue", "")
    prior = {"plateau_window": 2, "plateau_mode": "prior_window"}
    assert reason([1, 5, 5, 4], stop_criteria=prior) == ("stop_converged", "plateau")
    assert reason([0, 5, 5, 4, 3, 3], stop_criteria=prior) == ("continue", "")  # better than the window before
    assert reason([0, 5, 5, 4, 3, 3], stop_criteria=best) == ("stop_converged", "plateau")
    assert reason([1, 3, 2], stop_criteria=prior) == ("continue", "")  # two windows are needed
    assert reason([3, 2.95, 2.9], stop_criteria={**best, "plateau_tolerance": 0.2}) == ("stop_converged", "plateau")
    assert reason([1, None, None], stop_criteria=best) == ("stop_converged", "plateau")  # failures improve nothing
    assert reason([None, None, None], stop_criteria=best) == ("continue", "")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.integers(1, 4), st.floats(0, 5))
def test_a_plateau_mirrors(losses, window, tolerance):
    """Minimizing a series and maximizing its mirror image end at the same place."""
    for mode in ("all_time_best", "prior_window"):
        criteria = {"plateau_window": window, "plateau_tolerance": tolerance, "plateau_mode": mode}
        up = [{"name": "loss", "direction": "max"}]
        down = converged(manifest_of(stop_criteria=criteria), losses)[0]
        assert down == converged(manifest_of(stop_criteria=criteria, metrics=up), [-loss for loss in losses])[0]


def test_iterations():
    assert reason([3, 2, 1], stop_criteria={"max_iters": 3}) == ("stop_converged", "max_iters")
    assert reason([3, 2], stop_criteria={"max_iters": 3}) == ("continue", "")
    assert reason([3, 2, 1, 0], batch=2, stop_criteria={"max_iters": 2}) == ("stop_converged", "max_iters")


@pytest.mark.parametrize(
    ("losses", "reached", "raised"),
    [
        ([3, 2], {"budget": {"max_tasks": 2}}, {"budget": {"max_tasks": 3}}),
        ([3, 2], {"stop_criteria": {"max_iters": 2}}, {"stop_criteria": {"max_iters": 3}}),
        ([3, 2], {"stop_criteria": {"target": 2}}, {"stop_criteria": {"target": 1}}),
        ([3, 4], {"stop_criteria": {"plateau_window": 1}}, {"stop_criteria": {"plateau_window": 2}}),
    ],
)
def test_a_campaign_goes_on_once_its_limit_is_raised(losses, reached, raised):
    manifest, history = told(losses, **reached)
    step = next_step(manifest, history, 1.0)
    assert isinstance(step, Stop) and step.is_new(history)
    history.stopped = step.line
    again = next_step(manifest, history, 9e9)
    assert isinstance(again, Stop) and again.line == step.line and not again.is_new(history), "told once, in its words"
    higher = manifest_of(batch=1, strategy={"name": "random"}, **raised)
    assert isinstance(next_step(higher, history, 1.0), AskNow)
    other = next_step(msgspec.structs.replace(higher, abort_if=[AbortIf(failed_share=0.0001), AbortIf(metric="loss", above=0)]),
                      history, 1.0)  # fmt: skip
    assert isinstance(other, Stop) and other.is_new(history), "another reason is a line of its own"


def test_directions():
    """Both vocabularies mean the same; a name tells its direction, or a person does."""

    def of(*metrics, **parts):
        manifest = manifest_of(metrics=list(metrics), **parts)
        rule = [manifest.early_stop.direction] if manifest.early_stop else []
        return [one.direction for one in manifest.metrics] + rule

    assert of({"name": "accuracy"}, {"name": "val_loss"}) == ["maximize", "minimize"]
    for words in (("min", "max"), ("minimize", "maximize")):
        assert of(*({"name": f"q{word}", "direction": word} for word in words)) == ["minimize", "maximize"]
    assert of({"name": "loss"}, early_stop={"metric": "accuracy"}) == ["minimize", "maximize"]
    assert of({"name": "q", "direction": "max"}, early_stop={"metric": "q"}) == ["maximize", "maximize"]
    assert of({"name": "q"}, stop_criteria={"direction": "max"}) == ["maximize"]
    assert manifest_of(metrics=[{"name": "accuracy"}]).metrics[0].sign == -1
    for parts, field, flag in (
        ({"metrics": [{"name": "loss"}, {"name": "quality"}]}, "metrics[1].direction", "--metrics '[{"),
        ({"early_stop": {"metric": "quality"}}, "early_stop.direction", "--early-stop '{"),
    ):
        with pytest.raises(SpecInvalid) as caught:
            manifest_of(**parts)
        assert caught.value.field == field
        assert flag in caught.value.remediation and '"maximize"' in caught.value.remediation


def test_budgets():
    for budget in (
        {"max_tasks": 3}, {"max_jobs": 3}, {"max_core_hours": 6}, {"max_walltime_sec": 5400}, {"max_elapsed_sec": 50},
    ):  # fmt: skip
        assert reason([3, 2, 1], now=150.0, budget=budget) == ("stop_over_budget", "budget"), budget
        more = {name: value * 1.4 if isinstance(value, float) else value + 1 for name, value in budget.items()}
        assert reason([3, 2, 1], now=150.0, budget=more) == ("continue", ""), more
    manifest, history = told([3, 2, 1], budget={"max_tasks": 5, "max_core_hours": 10})
    assert remaining(manifest.budget, spent_of(history, 0.0)) == {"max_tasks": 2, "max_core_hours": 4.0}
    assert "3 of max_tasks 3" in exhausted(manifest_of(budget={"max_tasks": 3}).budget, spent_of(history, 0.0))


@pytest.mark.parametrize("tasks", [1, 7, 12, 20])
def test_a_budget_of_tasks_is_never_exceeded(tasks):
    for mode in ("batch", "async"):
        campaign = Campaign(manifest_of(mode=mode, width=4, ahead=2, budget={"max_tasks": tasks}), random.Random(tasks))
        campaign.run()
        assert len(campaign.history().trials) == tasks
        assert campaign.history().stopped.reason == "budget"


def test_abort_conditions():
    half = [{"failed_share": 0.5, "after_tasks": 4}]
    assert reason([1, None, None], abort_if=half) == ("continue", "")
    assert reason([1, None, None, 1], abort_if=half) == ("stop_aborted", "abort")
    assert reason([1, None, 1, 1], abort_if=half) == ("continue", "")
    poor = [{"metric": "loss", "above": 5, "after_tasks": 2}]
    assert reason([9, 8], abort_if=poor) == ("stop_aborted", "abort")
    assert reason([9, 4], abort_if=poor) == ("continue", "")
    assert reason([None, None], abort_if=poor) == ("stop_aborted", "abort")


def test_exhaustion_is_told_when_every_point_was_tried():
    space = {"depth": {"type": "int", "low": 1, "high": 3}, "kind": {"type": "categorical", "values": ["a", "b"]}}
    for name in ("random", "quasi_random", "grid", "tpe"):
        campaign = Campaign(manifest_of(space=space, strategy={"name": name}, batch=4))
        campaign.manifest = msgspec.structs.replace(campaign.manifest)
        lines = run_with(campaign, lambda params: {"loss": float(params["depth"])})
        asked = [json.dumps(line["params"], sort_keys=True) for line in lines if line["event"] == "ask"]
        assert len(asked) == len(set(asked)) == 6, name
        assert lines[-1]["reason"] == "exhausted"


def run_with(campaign, measure):
    """Run a campaign with another measurement."""
    global measured
    before, measured = measured, measure
    try:
        return campaign.run()
    finally:
        measured = before


def test_open_trials_are_waited_for_before_a_stop():
    manifest, history = told([3, 1], mode="async", stop_criteria={"target": 1})
    history.trials[0].state = "submitted"
    found = decision(manifest, history, spent_of(history, 0.0))
    assert (found.decision, found.reason) == ("wait_in_flight", "")
    assert "target" in found.detail
    history.trials[0].state = "complete"
    assert isinstance(next_step(manifest, history, 0.0), Stop)


# --- what a failed or stopped trial counts as


def test_failed_trials():
    losses = [1.0, None, 3.0]
    assert [one.losses for one in counted(losses, "drop")] == [[1.0], [3.0]]
    assert [one.losses for one in counted(losses, "worst")] == [[1.0], [3.0], [3.0]]
    manifest, history = told(losses, failed_trials="again", batch=3)
    [again] = strategies.ask(manifest, history, 1)
    assert (again.origin, again.params) == ("again:1", history.trials[1].params)
    history.trials[1].origin = "again:0"
    assert strategies.ask(manifest, history, 1)[0].origin == "random", "once more, and no third time"


def counted(losses, failed_trials):
    manifest, history = told(losses, failed_trials=failed_trials)
    return sorted(results(manifest, history), key=lambda one: (one.losses, one.trial.number))


def test_the_end_of_a_task_as_a_tell():
    manifest = manifest_of(constraints=[{"metric": "mb", "at_most": 5}])
    trial = fold([event_of(Ask(trial=0, iteration=0, params={}, origin="x"), 0.0)]).trials[0]
    tell = tell_of(manifest, trial, "complete", {"loss": 1.5, "mb": 4, "other": 1}, seconds=2.0, cpus=2)
    assert (tell.state, tell.values, tell.constraints) == ("complete", {"loss": 1.5}, {"mb": 4})
    for metrics, why in (({"mb": 1}, "'loss' is missing"), ({"loss": math.nan, "mb": 1}, "'loss' is nan"),
                         ({"loss": 1.0, "mb": True}, "'mb' is True"), ({"loss": 1.0}, "'mb' is missing")):  # fmt: skip
        tell = tell_of(manifest, trial, "complete", metrics)
        assert tell.state == "failed"
        assert why in tell.why
    tell = tell_of(manifest, trial, "complete", {"loss": 2.0}, stopped_at=3)
    assert (tell.state, tell.stopped_at, tell.values) == ("stopped", 3, {"loss": 2.0})
    assert tell_of(manifest, trial, "failed", {}, why="oom").why == "oom"


def test_best_front_and_constraints():
    metrics = [{"name": "loss"}, {"name": "speed", "direction": "maximize"}]
    manifest = manifest_of(metrics=metrics, constraints=[{"metric": "mb", "at_most": 5, "at_least": 1}])
    rows = [(1, 1, 9), (2, 5, 3), (3, 6, 3), (3, 4, 3), (2, 5, 5), (0, 9, 0)]
    lines = []
    for number, (loss, speed, mb) in enumerate(rows):
        lines.append(Ask(trial=number, iteration=0, params={}, origin="x"))
        lines.append(
            Tell(trial=number, state="complete", values={"loss": loss, "speed": speed}, constraints={"mb": mb})
        )
    history = fold([event_of(line, 0.0) for line in lines])
    assert history.best(manifest).number == 1, "the first of two equals, and none outside of a constraint"
    assert history.best(manifest, "speed").number == 2
    assert [trial.number for trial in history.pareto_front(manifest)] == [1, 4, 2]


# --- strategies


def test_grid_refines_around_the_best():
    manifest = manifest_of(
        space={"x": {"type": "float", "low": 0, "high": 1}},
        strategy={"name": "grid", "params": {"points": 5, "rounds": 4}},
    )
    lines = run_with(Campaign(manifest), lambda params: {"loss": abs(params["x"] - 0.3)})
    xs = [line["params"]["x"] for line in lines if line["event"] == "ask"]
    assert xs[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert min(abs(x - 0.3) for x in xs) < 0.01
    assert len(xs) < 25
    assert lines[-1]["reason"] == "exhausted"


def test_halving_takes_the_best_on():
    manifest = manifest_of(
        strategy={"name": "halving", "params": {"resource": "epochs", "max": 9}}, batch=9, budget={"max_tasks": 13}
    )
    lines = run_with(Campaign(manifest), lambda params: {"loss": params["lr"] / params["epochs"]})
    asks = [line for line in lines if line["event"] == "ask"]
    assert [ask["params"]["epochs"] for ask in asks] == [1] * 9 + [3] * 3 + [9]
    best = sorted(ask["params"]["lr"] for ask in asks[:9])
    assert sorted(ask["params"]["lr"] for ask in asks[9:12]) == best[:3]
    assert asks[12]["params"]["lr"] == best[0]
    history = fold([{**line, "at": 0.0} for line in lines])
    assert history.best(manifest).number == 12, "values of lower rungs do not compare"


def test_tpe_asks_what_optuna_asks():
    """A study that was never rebuilt, with the same seeds, gives the same trials: rebuilding loses nothing."""
    optuna = pytest.importorskip("optuna")
    manifest = manifest_of(
        space={"x": {"type": "float", "low": 0, "high": 1}, "y": {"type": "float", "low": 1e-3, "high": 1, "log": True}},
        strategy={"name": "tpe"}, batch=5, budget={"max_tasks": 40},
    )  # fmt: skip
    lines = run_with(Campaign(manifest), lambda params: {"loss": (params["x"] - 0.3) ** 2 + params["y"]})
    study = optuna.create_study()
    space = {
        "x": optuna.distributions.FloatDistribution(0, 1),
        "y": optuna.distributions.FloatDistribution(1e-3, 1, log=True),
    }
    open_trials = []
    for line in lines:
        if line["event"] == "ask":
            if line["trial"] < 10:  # quasi-random ones
                study.enqueue_trial(line["params"])
            study.sampler = optuna.samplers.TPESampler(seed=stream("tpe", 3, line["trial"], 0), constant_liar=True)
            open_trials.append(study.ask(space))
            assert open_trials[-1].params == line["params"], line["trial"]
        elif line["event"] == "tell":
            study.tell(open_trials[line["trial"]], line["values"]["loss"])


def test_quasi_random_points_are_even():
    """In each of 8 x 8 boxes there is one point of 64, or nearly: random ones leave a third of the boxes empty."""
    for seed in range(5):
        boxes = {tuple(int(at * 8) for at in halton_point(2, index, seed)) for index in range(64)}
        assert len(boxes) >= 50
        assert {int(halton_point(1, index, seed)[0] * 64) for index in range(64)} == set(range(64))
    assert halton_point(3, 5, 1) != halton_point(3, 5, 2)


numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["float", "step", "log", "int", "int log", "int step", "categorical"]))
    if kind == "categorical":
        values = draw(
            st.lists(st.one_of(st.booleans(), st.integers(0, 3), st.text(max_size=2)), min_size=1, max_size=5)
        )
        unique = {(type(value), value): value for value in values}
        return {"type": "categorical", "values": list(unique.values())}
    if kind.startswith("int"):
        low = draw(st.integers(1, 50))
        document = {"type": "int", "low": low, "high": low + draw(st.integers(1, 50))}
        return {**document, "log": kind == "int log", **({"step": 3} if kind == "int step" else {})}
    low = draw(numbers)
    width = draw(st.floats(0.01, 1e3))
    low = abs(low) + 0.01 if kind == "log" else low
    return {
        "type": "float",
        "low": low,
        "high": low + width,
        "log": kind == "log",
        **({"step": width / 7} if kind == "step" else {}),
    }


@given(parameters(), st.floats(0, 1))
def test_a_value_keeps_its_coordinate(document, at):
    parameter = manifest_of(space={"x": document}).space["x"]
    value = value_at(parameter, at)
    assert 0 <= coordinate_of(parameter, value) <= 1
    again = value_at(parameter, coordinate_of(parameter, value))
    assert type(again) is type(value)
    assert again == (pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value)
    if count := size(parameter):
        values = every_value(parameter)
        assert len(values) == count == points({"x": parameter})
        assert value in values or any(one == pytest.approx(value) for one in values if isinstance(value, float))


# --- the manifest


def test_manifests_that_cannot_be_meant():
    flat = {"type": "float", "low": 0, "high": 1}
    for parts, field in (
        ({"space": {}}, "space"),
        ({"space": {"x": {"type": "float", "low": 1, "high": 1}}}, "space.x"),
        ({"space": {"x": {**flat, "log": True}}}, "space.x"),
        ({"space": {"x": {"type": "categorical", "values": []}}}, "space.x"),
        ({"space": {"x": {"type": "int", "low": 0.5, "high": 2}}}, "space.x"),
        ({"space": {"x y": flat}}, "space.x y"),
        ({"metrics": []}, "metrics"),
        ({"metrics": LOSS * 2}, "metrics"),
        ({"constraints": [{"metric": "mb"}]}, "constraints[0]"),
        ({"stop_criteria": {"metric": "other"}}, "stop_criteria.metric"),
        (
            {"metrics": [{"name": "a", "direction": "min"}], "stop_criteria": {"direction": "max"}},
            "stop_criteria.direction",
        ),
        (
            {"metrics": [*LOSS, {"name": "b", "direction": "min"}], "stop_criteria": {"target": 1}},
            "stop_criteria.metric",
        ),
        ({"abort_if": [{"metric": "loss"}]}, "abort_if[0]"),
        ({"abort_if": [{"metric": "other", "above": 1}]}, "abort_if[0].metric"),
    ):
        with pytest.raises(SpecInvalid) as caught:
            manifest_of(**parts)
        assert caught.value.field == field


def test_strategies_refuse_what_they_cannot_serve():
    kinds = {"kind": {"type": "categorical", "values": ["a", "b"]}, "x": {"type": "float", "low": 0, "high": 1}}
    two = [*LOSS, {"name": "b", "direction": "min"}]
    for parts in (
        {"strategy": {"name": "cma_es"}, "space": kinds},
        {"strategy": {"name": "cma_es"}, "metrics": two},
        {"strategy": {"name": "halving", "params": {"resource": "epochs"}}},
        {"strategy": {"name": "halving", "params": {"resource": "epochs", "max": 2, "min": 2}}},
        {"strategy": {"name": "halving", "params": {"resource": "lr", "max": 9}}},
        {"strategy": {"name": "grid", "params": {"points": 1000}}},
        {"strategy": {"name": "tpe", "params": {"startups": 3}}},
        {"strategy": {"name": "random"}, "start": [{"lr": 1.0, "depth": 1, "drop": 0.0}]},
    ):
        with pytest.raises(SpecInvalid):
            strategies.check_strategy(manifest_of(**parts))


def test_without_the_extra_the_error_names_the_command(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    manifest = check_manifest(msgspec.convert({**BARE, "strategy": {"name": "tpe"}}, Manifest))
    with pytest.raises(NeedsResolution) as caught:
        next_step(manifest, History(), 0.0)
    assert "pip install 'hpc-agent[optuna]'" in caught.value.remediation
    for name in ("random", "quasi_random", "grid"):
        manifest = check_manifest(msgspec.convert({**BARE, "strategy": {"name": name}}, Manifest))
        assert strategies.ask(manifest, History(), 2)


BARE = {"campaign_id": "c", "space": SPACE, "metrics": LOSS}


def test_another_version_of_the_library_is_told():
    manifest = manifest_of(strategy={"name": "tpe"})
    asks = strategies.ask(manifest, History(), 2)
    history = fold([event_of(ask, 0.0) for ask in asks])
    assert history.trials[0].library.startswith("optuna 5.")
    assert strategies.other_libraries(manifest, history) == []
    history.trials[1].library = "optuna 5.9.9"
    [note] = strategies.other_libraries(manifest, history)
    assert "trials 1 to 1 were chosen by optuna 5.9.9" in note


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    repo = RepoLayout(tmp_path)
    manifest = manifest_of(**CASES["tpe, constraint, worst"], budget={"max_core_hours": 5})
    path = write_manifest(repo, manifest)
    assert read_manifest(repo, "c") == manifest
    document = json.loads(path.read_text())
    for wrong, error in (
        ({**document, "manifest_schema_version": 2}, SchemaIncompat),
        ({**document, "budget": {"max_taks": 5}}, JournalCorrupt),
        ([], JournalCorrupt),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(error):
            read_manifest(repo, "c")
    with pytest.raises(SpecInvalid):
        read_manifest(repo, "other")


@pytest.mark.parametrize("name", ["tpe", "cma_es", "quasi_random"])
def test_a_tick_at_1000_trials_is_quick(name, tmp_path):
    """Imports, fold, rebuilt study and ten asks: at most 1.5 s of processor time."""
    manifest = manifest_of(
        space={f"x{n}": {"type": "float", "low": 0, "high": 1} for n in range(5)}, strategy={"name": name}, batch=10
    )
    write_manifest(RepoLayout(tmp_path), manifest)
    rng, lines = random.Random(0), []
    for number in range(1000):
        params = {parameter: rng.random() for parameter in manifest.space}
        attrs = {"generation": number // 10} if name == "cma_es" else {}
        lines.append(Ask(trial=number, iteration=number // 10, params=params, origin=name, attrs=attrs))
        lines.append(Tell(trial=number, state="complete", values={"loss": sum(params.values())}))
    path = tmp_path / ".hpc/campaigns/c/journal.jsonl"
    path.write_text("".join(json.dumps(event_of(line, 0.0)) + "\n" for line in lines))
    code = (
        "import sys; from pathlib import Path; from hpc_agent.campaign.journal import CampaignJournal;"
        "from hpc_agent.campaign.manifest import read_manifest; from hpc_agent.campaign.step import next_step;"
        "from hpc_agent.state.repo_files import RepoLayout; from hpc_agent.world import World;"
        "repo = RepoLayout(Path(sys.argv[1])); history = CampaignJournal(World(), repo, 'c').history();"
        "print(len(next_step(read_manifest(repo, 'c'), history, 1.0).asks))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=env, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.strip() == "10"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
