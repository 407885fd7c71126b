"""The example of each verb is run as ``describe`` prints it, in examples/horizon_sweep on this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from hpc_agent.contract.primitive import load_all
from hpc_agent.ops.introspect.describe import example_line

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
VERBS = load_all()
# Verbs of these stages need a host, a program or minutes of their own, and have their own tests.
ELSEWHERE = {"setup", "agents"}
RUN_STAGES = ("submit", "monitor", "recover", "aggregate", "report", "provenance")
# In this order, because each needs what the one before it left.
RUN = [
    "submit",
    "monitor-flow",
    "aggregate",
    "verify-aggregation-complete",
    "export-crate",
    "resubmit",
    "cluster-reduce",
]
REPEATED = ["reproduce-run", "monitor-flow", "verify-reproduction", "submit-spec", "compare"]
CAMPAIGN = ["campaign-init", "campaign-driver"]
CANARY = ["submit-and-verify", "verify-canary"]
LAST = ["mark-run-terminal", "write-run-sidecar"]
WITHOUT_TASKS = ["build-tasks-py", "interview"]
REFUSED = {
    "export-package": ("spec_invalid", "there is no notebook"),
    "join-series": ("precondition_failed", "no task of"),  # the example splits no series
    "update-run-constraints": ("precondition_failed", "this scheduler cannot change"),
    "mark-run-terminal": ("run_not_found", "is known"),  # nobody wants it in the journal of a run that is used below
}


@pytest.fixture
def call(run_cli, tmp_path, world_home):
    """``call("status")`` runs the example of status; made-up ids stand for those of the repo."""
    repo = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, repo, ignore=shutil.ignore_patterns("results", "runs", "__pycache__"))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tools / "python3").chmod(0o755)
    world_home.env.update(PATH=f"{tools}{os.pathsep}{world_home.env['PATH']}", HPC_PROGRESS="none")
    ids: dict[str, str] = {}

    def run(verb: str):
        words = shlex.split(example_line(VERBS[verb]))[1:]
        for made_up, real in ids.items():
            words = [word.replace(made_up, real) for word in words]
        outcome = run_cli(*words, cwd=repo, timeout=240)
        if verb in REFUSED:
            code, message = REFUSED[verb]
            assert (outcome.envelope["error_code"], message in outcome.envelope["message"]) == (code, True)
            return outcome
        if outcome.envelope.get("error_code") == "reproduction_differs":
            # OpenBLAS may choose other kernels in another process: then the remedy's command accepts the last digit
            remedy = outcome.envelope["remediation"]
            assert "Where rounding explains it" in remedy, outcome.envelope
            outcome = run_cli(*shlex.split(remedy.partition("hpc-agent ")[2]), cwd=repo, timeout=240)
        assert outcome.code == 0, (words, outcome.envelope)
        if verb == "submit":
            ids["0" * 64], ids["horizon_sweep-1a2b3c4d"] = outcome.data["cmd_sha"], outcome.data["run_id"]
        if verb == "reproduce-run":
            ids["horizon_sweep-5e6f7a8b"] = outcome.data["run_id"]
        if verb == "compare":
            del ids["horizon_sweep-1a2b3c4d"]
        return outcome

    run.repo = repo
    return run


def of_stages(*stages: str) -> list[str]:
    return [name for name, verb in VERBS.items() if verb.stage in stages]


@pytest.mark.local
@pytest.mark.slow(reason="two runs that fit models, and every verb that looks at one")
@pytest.mark.timeout(900)
def test_the_examples_of_a_run(call):
    for verb in [*RUN, *REPEATED]:
        call(verb)
    done = {*RUN, *REPEATED, *CANARY, *LAST, "submit-flow-batch"}
    views = [name for name in of_stages(*RUN_STAGES) if name not in done]
    for verb in [*views, *LAST]:
        call(verb)


@pytest.mark.local
@pytest.mark.slow(reason="three small runs that fit models")
@pytest.mark.timeout(900)
def test_the_examples_of_other_submissions(call):
    for verb in [*CANARY, "submit-flow-batch", *CAMPAIGN, *(v for v in of_stages("campaign") if v not in CAMPAIGN)]:
        call(verb)


@pytest.mark.local
@pytest.mark.timeout(600)
def test_the_examples_of_the_other_stages(call):
    stages = {verb.stage for verb in VERBS.values()} - {*ELSEWHERE, *RUN_STAGES, "campaign"}
    for verb in of_stages(*stages):
        if verb not in WITHOUT_TASKS:
            call(verb)
    for verb in WITHOUT_TASKS:
        for name in ("tasks.py", "cli.py"):
            (call.repo / ".hpc" / name).unlink(missing_ok=True)
        call(verb)
