"""The driver of campaigns on real schedulers: killed anywhere, no trial is lost, repeated or chosen anew."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from campaign import Killed, check_replay, drive, events, killer, make_campaign, told

from hpc_agent.world import World

pytestmark = pytest.mark.usefixtures("clusters_file")
TPE = {"strategy": {"name": "tpe", "params": {"startup": 4}}}
BATCH = {"mode": "batch", "batch": 4, "stop_criteria": {"max_iters": 3}, **TPE}
ASYNC = {"mode": "async", "width": 3, "ahead": 2, "budget": {"max_tasks": 12}, **TPE}


def world_of(world_home, repo):
    return World(cwd=repo, env=world_home.env)


def finish(world, kills=None, seconds=200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            answer = drive(world)
        except Killed:
            continue
        if answer.decision.startswith("stop"):
            return answer
        time.sleep(0.2)
    raise AssertionError(f"the campaign has not ended: {answer}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_batch_campaign_killed_everywhere_equals_one_that_was_not(site, tmp_path, world_home, monkeypatch):
    whole, broken = (make_campaign(tmp_path / name, tmp_path / f"{name}.ran", **BATCH) for name in ("whole", "broken"))
    undisturbed = finish(world_of(world_home, whole))
    with killer(monkeypatch) as points:
        ended = finish(world_of(world_home, broken))
    assert len(points) >= 60, points
    assert told(broken) == told(whole)
    assert (ended.best, ended.reason) == (undisturbed.best, "max_iters")
    assert Counter((tmp_path / "broken.ran").read_text().split()) == Counter(map(str, range(12)))
    assert check_replay(broken) == 12


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_an_asynchronous_campaign_killed_everywhere_loses_and_repeats_no_trial(site, tmp_path, world_home, monkeypatch):
    repo = make_campaign(tmp_path / "repo", tmp_path / "ran", **ASYNC)
    with killer(monkeypatch) as points:
        ended = finish(world_of(world_home, repo))
    assert len(points) >= 60, points
    assert (ended.reason, ended.trials) == ("budget", {"complete": 12})
    assert Counter((tmp_path / "ran").read_text().split()) == Counter(map(str, range(12)))
    assert Counter(event["trial"] for event in events(repo) if event["event"] == "ask") == Counter(range(12))
    assert check_replay(repo) == 12
