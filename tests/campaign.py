"""Small campaigns for tests: a repo with a manifest, its driver in this process, and a kill at any point of the driver."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpc_agent.campaign import journal as campaign_journal
from hpc_agent.campaign.journal import CampaignJournal, History, Submitted, apply, fold
from hpc_agent.campaign.manifest import read_manifest
from hpc_agent.campaign.step import AskNow, Stop, Submit, next_step, tell_of
from hpc_agent.campaign.strategies import ask
from hpc_agent.infra.remote import Node
from hpc_agent.ops.flows.campaign_driver import CampaignDriverRequest, CampaignDriverResult, campaign_driver
from hpc_agent.ops.submit import new_run
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

# The loss of a trial; each start of a task adds a line to the file WITNESS.
LOSS = """import json, os
x, y = float(os.environ["X"]), float(os.environ["Y"])
with open(os.environ["WITNESS"], "a") as witness:
    witness.write(os.environ["HPC_TRIAL"] + "\\n")
json.dump({"loss": (x - 1) ** 2 + y * y}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""
SPACE = {name: {"type": "float", "low": -3, "high": 3} for name in ("x", "y")}


def make_campaign(repo: Path, witness: Path, executor: str = "python3 loss.py", **fields: Any) -> Path:
    """Write a repo with the campaign ``study``: random search for the least loss, unless ``fields`` say otherwise."""
    submit = {"cluster": "testbed", "executor": executor, "env": {"WITNESS": str(witness)}, **fields.pop("submit", {})}
    manifest = {"campaign_id": "study", "space": SPACE, "metrics": [{"name": "loss"}], "strategy": {"name": "random"}}
    folder = repo / ".hpc" / "campaigns" / "study"
    folder.mkdir(parents=True)
    (repo / "loss.py").write_text(LOSS)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "submit": submit, **fields}))
    return repo


def drive(world: World, **fields: Any) -> CampaignDriverResult:
    return campaign_driver(CampaignDriverRequest(campaign_id="study", **fields), world)


def events(repo: Path) -> list[dict[str, Any]]:
    return CampaignJournal(World(cwd=repo), RepoLayout(repo), "study").events()


def told(repo: Path) -> list[dict[str, Any]]:
    """What a campaign was, without its times and the names of its runs: asks and runs in their order, then the ends."""
    lines = [
        {key: value for key, value in event.items() if key not in ("at", "seconds", "run_id")} for event in events(repo)
    ]
    return sorted(lines, key=lambda line: (line["event"] == "tell", line["trial"] if line["event"] == "tell" else 0))


def expected(repo: Path) -> list[dict[str, Any]]:
    """The parameters and the loss of each trial of a batch campaign that nothing disturbs, without a cluster."""
    manifest, history = read_manifest(RepoLayout(repo), "study"), History()
    while not isinstance(step := next_step(manifest, history, 0.0), Stop):
        if isinstance(step, AskNow):
            for line in step.asks:
                apply(history, line, 0.0)
            continue
        assert isinstance(step, Submit)
        apply(history, Submitted(iteration=step.iteration, run_id=f"r{step.iteration}", trials=step.trials), 0.0)
        for trial in history.open_trials:
            loss = (trial.params["x"] - 1) ** 2 + trial.params["y"] * trial.params["y"]
            apply(history, tell_of(manifest, trial, "complete", {"loss": loss}), 0.0)
    return [{"params": trial.params, "values": trial.values} for trial in history.trials]


def check_replay(repo: Path) -> int:
    """Ask anew after the events before each ask, and compare. Return the number of asks."""
    manifest, lines, asked = read_manifest(RepoLayout(repo), "study"), events(repo), 0
    for place, line in enumerate(lines):
        if line["event"] == "ask":
            (again,) = ask(manifest, fold(lines[:place]), 1)
            assert (again.trial, again.params, again.iteration) == (line["trial"], line["params"], line["iteration"])
            asked += 1
    return asked


class Killed(BaseException):
    """The driver's process ended here."""


@contextmanager
def killer(monkeypatch: Any) -> Iterator[list[tuple[Any, ...]]]:
    """End the driver once before and once after each line of a journal, each request to the cluster and each push.

    Yields the points at which it was killed so far.
    """
    points: list[tuple[Any, ...]] = []

    def around(holder: Any, name: str, key: Callable[..., Any]) -> None:
        real = getattr(holder, name)

        def call(*words: Any, **named: Any) -> Any:
            which = key(*words, **named)
            die("before", name, which)
            answer = real(*words, **named)
            die("after", name, which)
            return answer

        patch.setattr(holder, name, call)

    def die(*point: Any) -> None:
        if point not in points:
            points.append(point)
            raise Killed(*point)

    def line(path: Any, event: dict[str, Any], *rest: Any) -> str:
        return json.dumps({key: value for key, value in event.items() if key != "at"}, sort_keys=True, default=str)

    def request(node: Node, verb: str, question: dict[str, Any], *rest: Any) -> tuple[str, str]:
        runs = [one["run_id"] + one["known"] for one in question.get("runs", [])]
        return verb, str(question.get("run_id") or (question.get("run") or {}).get("run_id") or runs)

    with monkeypatch.context() as patch:
        around(campaign_journal, "append_line", line)
        around(new_run.Journal, "append", lambda journal, run_id, event, **facts: (run_id, event))
        around(new_run, "write_run_sidecar", lambda repo, sidecar: sidecar.run_id)
        around(Node, "bootstrap", request)
        around(Node, "push", lambda node, source, files, *rest: len(files))
        yield points
