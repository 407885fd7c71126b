"""Campaigns without a cluster: the journal, replays of every strategy, the reasons to stop."""

from __future__ import annotations

import json
import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.campaign import strategies
from hpc_agent.campaign.journal import History, Submitted, event_of, fold
from hpc_agent.campaign.manifest import Manifest, check_manifest
from hpc_agent.campaign.step import AskNow, Stop, Submit, Wait, next_step, tell_of

SPACE = {
    "lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "depth": {"type": "int", "low": 1, "high": 12},
    "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
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
                case Stop(_, line):
                    if not self.history().stopped:
                        self.write(line, kill_at)
                    return False

    def run(self, ticks: int = 1000) -> list[dict]:
        for _ in range(ticks):
            if not self.tick():
                break
        return self.identity()

    def identity(self) -> list[dict]:
        """The lines without their times."""
        return [{name: value for name, value in line.items() if name != "at"} for line in self.lines]


@EVERY
def test_a_replay_of_any_prefix_asks_the_same(case):
    """Batch: the journal is cut before every ask, folded anew, and asked for the rest of the batch."""
    manifest = manifest_of(**CASES[case], budget={"max_tasks": 40})
    campaign = Campaign(manifest)
    campaign.run()
    assert sum(line["event"] == "ask" for line in campaign.lines) == 40
    for number, line in enumerate(campaign.identity()):
        if line["event"] == "ask":
            again = strategies.ask(manifest, fold(json.loads(json.dumps(campaign.lines[:number]))), 1)[0]
            assert {"event": "ask", **msgspec.to_builtins(again)} == line


@EVERY
def test_killed_before_every_line_the_trials_are_the_same(case):
    manifest = manifest_of(**CASES[case], budget={"max_tasks": 30})
    whole = Campaign(manifest).run()
    for kill_at in range(0, len(whole), 1 if case in ("quasi_random", "tpe") else 5):
        campaign = Campaign(manifest)
        with pytest.raises(Kill):
            for _ in range(1000):
                campaign.tick(kill_at)
        campaign.lines = json.loads(json.dumps(campaign.lines))
        assert campaign.run() == whole


@EVERY
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_any_order_of_ends_replays(case, seed):
    """Asynchronous: no trial twice, none lost, and the order of events decides every ask."""
    facts = {"mode": "async", "width": 5, "ahead": 4, "budget": {"max_tasks": 35}}
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
