"""``--at-once`` and ``--isolate`` from a request to what the cluster keeps, and to every later submission of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch
from mcp_client import in_memory, session_in

pytestmark = [
    pytest.mark.parametrize("site", ["local"], indirect=True),
    pytest.mark.usefixtures("site", "clusters_file"),
]
OPTIONS = ("--pack", "4", "--at-once", "2", "--isolate", "exec", "--mem-mb", "50", "--walltime-sec", "60")
FAILS_ONCE = (
    'test -e "$HPC_CHECKPOINT_DIR/x" || { mkdir -p "$HPC_CHECKPOINT_DIR"; touch "$HPC_CHECKPOINT_DIR/x"; exit 3; }'
)


def kept(path):
    """Layout, isolate and at_once of a run's document, and pack and at_once of its arrays."""
    run = json.loads(Path(path, "run.json").read_text())
    arrays = [json.loads(file.read_text()) for file in sorted(Path(path, "jobs").glob("[ar]*.json"))]
    return (run["layout"], run["isolate"], run["at_once"]), [(a["array"], a["pack"], a["at_once"]) for a in arrays]


def test_they_reach_the_cluster_and_every_later_submission(run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(5)])
    sent = submit(run_cli, repo, FAILS_ONCE, *OPTIONS)
    assert (sent["plan"]["at_once"], sent["plan"]["isolate"], sent["plan"]["total_elements"]) == (2, "exec", 2)
    assert kept(sent["remote_path"]) == ((2, "exec", 2), [("a0", 4, 2)])
    sidecar = json.loads((repo / ".hpc" / "runs" / f"{sent['run_id']}.json").read_text())
    assert (sidecar["layout"], sidecar["isolate"], sidecar["at_once"]) == (2, "exec", 2)
    assert watch(run_cli, repo)["lifecycle_state"] == "failed"

    again = submit(run_cli, repo, FAILS_ONCE, "--pack", "2", "--isolate", "fork")
    told = next(note for note in again["notes"] if "the jobs of the run have" in note)
    assert told.endswith("have pack 4, not 2; isolate exec, not fork")
    assert run_cli("resubmit", "--force", cwd=repo).data["resubmitted"] == 5
    assert kept(sent["remote_path"])[1] == [("a0", 4, 2), ("r2-0", 2, 2)]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"

    repeat = run_cli("reproduce-run", "--run-id", sent["run_id"], cwd=repo).data["run_id"]
    path = Path(sent["remote_path"]).with_name(repeat)
    assert kept(path) == ((2, "exec", 2), [("a0", 4, 2)])
    watch(run_cli, repo)


def test_the_usual_values_are_written_too(run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    sent = submit(run_cli, repo, WRITE, "--mem-mb", "50", "--walltime-sec", "60")
    assert kept(sent["remote_path"]) == ((2, "warm", 1), [("a0", 1, 1)])
    watch(run_cli, repo)


def test_a_plan_packs_what_runs_at_once_and_every_way_to_submit_takes_it(run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(6)])
    asked = ("--cluster", "testbed", "--executor", WRITE, "--at-once", "2", "--isolate", "fork")
    built = run_cli("build-submit-spec", *asked, cwd=repo).data
    assert (built["spec"]["at_once"], built["spec"]["isolate"], built["plan"]["pack"]) == (2, "fork", 2)
    dry = {**built["spec"], "dry_run": True}
    for verb in ("submit", "submit-flow"):
        plan = run_cli(verb, "--spec", "-", cwd=repo, stdin=json.dumps(dry)).data["plan"]
        assert (plan["pack"], plan["at_once"], plan["isolate"]) == (2, 2, "fork")
    body = run_cli("summarize-submit-plan", *asked, cwd=repo).data["body"]
    assert "2 tasks to an element, 2 at once (3 elements)" in body
    assert "an element runs 2 at once" in body
    batch = {"specs": [{"run_name": "one"}], "common": {key: dry[key] for key in dry if key != "experiment_dir"}}
    assert run_cli("submit-flow-batch", "--spec", "-", cwd=repo, stdin=json.dumps(batch)).data["n_failed"] == 0
    planned = run_cli("plan-throughput", "--cluster", "testbed", "--total-tasks", "9", "--at-once", "2", cwd=repo).data
    assert (planned["pack"], planned["at_once"], planned["elements"]) == (2, 2, 5)
    session = session_in(repo, world_home.env, allow_submit=True)

    async def run(agent):
        plan = await agent.data("submit", {**{key: dry[key] for key in dry if key != "experiment_dir"}})
        assert (plan["plan"]["at_once"], plan["plan"]["isolate"]) == (2, "fork")

    in_memory(session, run)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (("--at-once", "0"), "at_once"),
        (("--pack", "2", "--at-once", "3"), "at_once"),
        (("--pack", "100000", "--at-once", "100000"), "at_once"),
        (("--at-once", "2", "--nodes", "2"), "at_once"),
    ],
)
def test_nonsense_is_refused(run_cli, tmp_path, flags, field):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    answer = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, "--dry-run", *flags, cwd=repo)
    assert (answer.code, answer.envelope["error_code"]) == (1, "spec_invalid")
    assert answer.envelope["field"] == field
    assert answer.envelope["remediation"]
    unknown = run_cli("submit", "--spec", "-", cwd=repo, stdin=json.dumps({"cluster": "testbed", "isolate": "thread"}))
    assert (unknown.code, unknown.envelope["error_code"]) == (1, "spec_invalid")
    assert "isolate" in unknown.envelope["message"]
