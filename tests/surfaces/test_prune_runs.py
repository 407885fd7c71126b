"""``prune-runs``: a look that removes nothing, then just what the look showed, whatever is killed in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch
from mcp_client import in_memory, session_in

from hpc_agent.node.shared.processes import family, table

pytestmark = [
    pytest.mark.parametrize("site", ["local"], indirect=True),
    pytest.mark.usefixtures("site", "clusters_file"),
]


@pytest.fixture
def ended(run_cli, tmp_path):
    """A repo and a complete run of it."""
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    sent = submit(run_cli, repo, WRITE, "--mem-mb", "50", "--walltime-sec", "60")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    return repo, sent["run_id"], Path(sent["remote_path"])


def prune(run_cli, repo, *words):
    return run_cli("prune-runs", *words, cwd=repo)


def snapshot_files(path):
    root = path.parents[1] / "snapshots"
    return sorted(str(file) for file in root.rglob("*"))


def test_a_look_removes_nothing_and_its_token_removes_what_it_showed(run_cli, ended):
    repo, run_id, path = ended
    os.link(path / "digests.bin", repo.parent / "twin")
    before = sorted(path.rglob("*"))
    plain = prune(run_cli, repo).data
    (row,) = plain["runs"]
    assert (row["run_id"], row["state"], row["action"], plain["token"]) == (run_id, "complete", "keep", None)
    used = sum(os.lstat(p).st_blocks * 512 for p in before if p.is_dir() or os.lstat(p).st_nlink == 1)
    assert plain["held"] == {"runs": 1, "bytes": used, "files": len(before), "not_measured": 0}
    assert row["shared_bytes"] == os.lstat(path / "digests.bin").st_blocks * 512

    look = prune(run_cli, repo, run_id, "--what", "logs,results").data
    assert sorted(path.rglob("*")) == before
    assert look["next_step"].endswith(f"--confirm {look['token']}")
    assert (look["removed"], look["chosen"]["runs"], look["runs"][0]["action"]) == (False, 1, "remove")
    other = prune(run_cli, repo, run_id, "--what", "logs", "--confirm", look["token"])
    assert (other.envelope["error_code"], other.envelope["field"]) == ("precondition_failed", "confirm")
    assert sorted(path.rglob("*")) == before

    gone = prune(run_cli, repo, run_id, "--what", "logs,results", "--confirm", look["token"]).data
    assert (gone["removed"], gone["chosen"], gone["deleted"]["left"]) == (True, look["chosen"], 0)
    left = [p for p in path.rglob("*") if p.relative_to(path).parts[0] in ("logs", "results")]
    assert [str(p.relative_to(path)) for p in sorted(left)] == ["logs", "logs/scheduler", "results"]
    assert run_cli("status", cwd=repo).data["last_status"]["complete"] == 3
    assert run_cli("aggregate", cwd=repo).data["row_count"] == 3, "the records have the metrics"
    assert prune(run_cli, repo, run_id, "--what", "logs,results").data["token"] is None, "they are gone already"
    assert prune(run_cli, repo, run_id).data["runs"][0]["pruned"] == ["logs", "results"]
    (path / "logs" / "scheduler" / "later.out").write_text("a task that was submitted again")
    assert prune(run_cli, repo, run_id, "--what", "logs").data["chosen"]["runs"] == 1


def test_a_run_without_its_code_says_so_and_its_records_stay(run_cli, ended):
    repo, run_id, path = ended
    assert prune(run_cli, repo, run_id, "--what", "work", "--yes").data["removed"]
    assert os.listdir(path / "work") == [".hpc"]
    assert run_cli("aggregate", cwd=repo).data["row_count"] == 3
    refused = run_cli("resubmit", "--task-id", "0", "--force", cwd=repo)
    assert (refused.envelope["error_code"], "--rerun" in refused.envelope["remediation"]) == (
        "precondition_failed",
        True,
    )


def test_a_whole_run_leaves_a_tombstone_and_what_others_share(run_cli, ended):
    repo, run_id, path = ended
    outside = repo.parent / "mine"
    outside.mkdir()
    (outside / "keep.txt").write_text("mine")
    (path / "results" / "0" / "link").symlink_to(outside)
    (path / "results" / "0" / "file").symlink_to(outside / "keep.txt")
    sealed = path / "results" / "sealed"
    sealed.mkdir()
    (sealed / "file").write_text("x")
    sealed.chmod(0o555)
    kept = snapshot_files(path)
    done = prune(run_cli, repo, run_id, "--what", "all", "--yes").data
    assert (done["removed"], done["deleted"]["left"], path.exists()) == (True, 0, False)
    assert snapshot_files(path) == kept
    assert (outside / "keep.txt").read_text() == "mine"
    assert os.listdir(path.parents[1] / "pruned") == ["log.jsonl"]

    state = run_cli("status", cwd=repo).data
    assert (state["lifecycle_state"], state["last_status"]["complete"]) == ("complete", 3)
    assert f"{run_id} was pruned on 20" in state["notes"][0]
    listed = run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"]
    assert listed[0]["pruned_at"] > 0
    refused = run_cli("failures", "--run-id", run_id, cwd=repo)
    assert refused.envelope["error_code"] == "precondition_failed"
    assert "was pruned on" in refused.envelope["message"]
    again = prune(run_cli, repo, run_id, "--what", "all", "--yes").data
    assert (again["removed"], again["runs"][0]["action"], again["runs"][0]["why"][:9]) == (False, "gone", "pruned on")
    assert any("was pruned on" in note for note in submit(run_cli, repo, WRITE)["notes"])
    anew = submit(run_cli, repo, WRITE, "--rerun", "--mem-mb", "50", "--walltime-sec", "60")
    assert anew["run_id"] != run_id
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def test_this_machine_gives_up_its_part_only_when_asked(run_cli, ended, world_home):
    repo, run_id, _ = ended
    sidecar = repo / ".hpc" / "runs" / f"{run_id}.json"
    held = prune(run_cli, repo).data["runs"][0]["local_bytes"]
    assert held > sidecar.stat().st_size
    assert prune(run_cli, repo, run_id, "--what", "all", "--yes").data["removed"]
    assert sidecar.exists()
    assert prune(run_cli, repo, run_id, "--what", "all", "--local", "--yes").data["removed"]
    assert not sidecar.exists()
    assert "was pruned on" in run_cli("status", "--run-id", run_id, cwd=repo).data["notes"][0]
    assert prune(run_cli, repo, run_id, "--what", "all", "--local", "--yes").data["removed"] is False


def test_a_run_in_flight_stays(run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    go = tmp_path / "go"
    sent = submit(run_cli, repo, f'while [ ! -e "{go}" ]; do sleep 0.1; done', "--mem-mb", "50")
    look = prune(run_cli, repo, sent["run_id"], "--what", "all", "--yes").data
    assert (look["removed"], look["blocked"], look["token"]) == (False, 1, None)
    assert look["runs"][0]["why"].startswith("in flight: ")
    run_cli("mark-run-terminal", "--run-id", sent["run_id"], cwd=repo)
    assert prune(run_cli, repo, sent["run_id"], "--what", "logs", "--yes").data["blocked"] == 1, "the queue decides"
    go.touch()
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert prune(run_cli, repo, sent["run_id"], "--what", "all", "--yes").data["removed"]


def test_age_and_number_choose_runs_and_the_answer_stays_short(run_cli, ended):
    repo, run_id, path = ended
    document = json.loads((path / "run.json").read_text())
    day = 86400
    for number in range(40):
        copy = path.with_name(f"old-{number:02d}")
        shutil.copytree(path / "jobs", copy / "jobs", ignore=shutil.ignore_patterns("*.sending"))
        (copy / "jobs" / "a0.json").unlink()
        (copy / "run.json").write_text(json.dumps({**document, "run_id": copy.name, "reproduces": run_id}))
        for place in (copy / "jobs", copy):
            os.utime(place, (time.time() - (number + 10.5) * day,) * 2)
    every = ("--cluster", "testbed", "--what", "all")
    answer = prune(run_cli, repo, *every, "--older-than", "30d")
    look = answer.data
    assert (look["held"]["runs"], look["chosen"]["runs"], look["blocked"]) == (41, 20, 0)
    assert len(json.dumps(answer.envelope)) <= 4600, "4 KB without the spaces"
    both = prune(run_cli, repo, *every, "--older-than", "30d", "--keep-latest", "31").data
    assert both["chosen"]["runs"] == 10
    few = prune(run_cli, repo, *every, "--keep-latest", "39", "--limit", "3").data
    assert (few["chosen"]["runs"], [row["run_id"] for row in few["runs"]][:2]) == (2, ["old-38", "old-39"])
    assert prune(run_cli, repo, run_id).data["runs"][0]["repeated_by"] == ["old-00", "old-01", "old-02"]
    done = prune(run_cli, repo, *every, "--older-than", "30d", "--confirm", look["token"]).data
    assert (done["removed"], done["chosen"]) == (True, look["chosen"])
    assert len(list(path.parent.iterdir())) == 21


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--what", "all"), "run_ids"),
        (("--what", "log", "--keep-latest", "1"), "what"),
        (("--what", "all,logs", "--keep-latest", "1"), "what"),
        (("--what", "all", "--older-than", "30:00"), "older_than"),
        (("--older-than", "never"), "older_than"),
        (("--what", "logs", "--local", "--keep-latest", "1"), "local"),
        (("--confirm", "x"), "what"),
    ],
)
def test_a_request_without_sense_is_refused(run_cli, tmp_path, words, field):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    answer = prune(run_cli, repo, *words)
    assert (answer.code, answer.envelope["error_code"], answer.envelope["field"]) == (1, "spec_invalid", field)
    assert "prune-runs" in answer.envelope["remediation"]


def test_the_newest_run_is_the_latest(run_cli, ended):
    repo, run_id, _ = ended
    look = prune(run_cli, repo, "latest", "--what", "results").data
    assert look["chosen"]["runs"] == 1
    assert f" {run_id} " in look["next_step"] + " "
    assert prune(run_cli, repo, *look["next_step"].split()[2:]).data["removed"]


def test_a_run_that_nobody_knows(run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    assert prune(run_cli, repo, "nothing").envelope["error_code"] == "run_not_found"
    assert "Did you mean" not in prune(run_cli, repo, "latest").envelope["remediation"]
    assert prune(run_cli, repo).data["held"]["runs"] == 0


def test_a_kill_leaves_no_run_that_looks_whole_and_the_same_call_goes_on(run_cli, ended, world_home):
    repo, run_id, path = ended
    for number in range(40):
        folder = path / "results" / f"more-{number}"
        folder.mkdir()
        for file in range(500):
            (folder / str(file)).touch()
    aside = path.parents[1] / "pruned"
    look = prune(run_cli, repo, run_id, "--what", "all").data
    words = ["prune-runs", run_id, "--what", "all", "--confirm", look["token"]]
    command = [sys.executable, "-m", "hpc_agent", *words]
    child = subprocess.Popen(command, cwd=repo, env=world_home.env, start_new_session=True, stdout=-1, stderr=-1)
    deadline = time.monotonic() + 60
    while path.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    for pid in family(table(), child.pid, {}):  # the process that deletes, too
        os.kill(pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert not path.exists()
    assert len(os.listdir(aside)) == 2, "killed while it deleted"
    told = run_cli("status", "--run-id", run_id, cwd=repo)
    assert told.envelope["error_code"] == "precondition_failed"
    assert f"hpc-agent prune-runs --run-ids {run_id}" in told.envelope["remediation"]
    last = run_cli(*words, cwd=repo).data
    assert (last["deleted"]["left"], os.listdir(aside)) == (0, ["log.jsonl"])
    assert last["deleted"]["files"] > 0
    assert "was pruned on" in run_cli("status", "--run-id", run_id, cwd=repo).data["notes"][0]


def test_a_read_only_server_refuses_it_and_another_wants_the_token(ended, world_home):
    repo, run_id, path = ended
    asked = {"run_ids": [run_id], "what": ["all"]}

    async def read_only(agent):
        assert "error" in await agent.call("call", {"verb": "prune-runs", "arguments": asked})

    async def allowed(agent):
        look = await agent.data("call", {"verb": "prune-runs", "arguments": asked})
        assert path.exists()
        asked["confirm"] = look["token"]
        assert (await agent.data("call", {"verb": "prune-runs", "arguments": asked}))["removed"]
        assert not path.exists()

    in_memory(session_in(repo, world_home.env), read_only)
    in_memory(session_in(repo, world_home.env, allow_submit=True, budget_core_hours=1.0), allowed)
