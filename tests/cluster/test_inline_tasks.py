"""Runs whose tasks stand in the request: they need no tasks.py, and no push where the snapshot is known."""

from __future__ import annotations

import json
import shlex

import pytest
from experiment import aggregate, submit, watch, write

pytestmark = pytest.mark.usefixtures("clusters_file")
EXECUTOR = 'test "$X" != 2 || test -e "$FLAG" || exit 3; echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'


def tasks(*values):
    return ["--tasks", json.dumps([{"x": x} for x in values])]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "local"], indirect=True)
def test_a_run_without_tasks_py(site, run_cli, tmp_path, ssh_counter):
    repo = tmp_path / "repo"
    write(repo / "code.py", "")
    flag = site.scratch / "flag"
    words = ["--env", json.dumps({"FLAG": str(flag)})]
    first = submit(run_cli, repo, EXECUTOR, *tasks(1, 2, 0.1), *words)
    assert watch(run_cli, repo)["last_status"]["failed"] == 1
    (failed,) = run_cli("failures", "--full", cwd=repo).data["clusters"]
    flag.touch()
    assert run_cli("resubmit", "--task-id", "1", "--force", cwd=repo).data["resubmitted"] == 1, failed
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    rows = aggregate(run_cli, repo)["rows"]
    assert sorted(row["metrics"]["y"]["mean"] for row in rows) == [0.1, 1, 2]

    ssh_counter.reset()
    second = submit(run_cli, repo, EXECUTOR, *tasks(5, 6), *words)
    assert second["run_id"] != first["run_id"]
    assert second["tree_sha"] == first["tree_sha"]
    if site.transport == "ssh":
        assert (ssh_counter.count("ssh"), ssh_counter.count("rsync")) == (1, 0)
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    again = submit(run_cli, repo, EXECUTOR, *tasks(5, 6), *words)
    assert (again["run_id"], again["deduped"]) == (second["run_id"], True)


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_snapshot_that_is_gone_is_pushed_again(site, run_cli, tmp_path):
    repo = tmp_path / "repo"
    write(repo / "code.py", "")
    first = submit(run_cli, repo, EXECUTOR, *tasks(1))
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    snapshots = next(path for path in site.scratch.rglob("snapshots"))
    (snapshot,) = snapshots.iterdir()
    snapshot.rename(snapshots.parent / "moved")
    second = submit(run_cli, repo, EXECUTOR, *tasks(7))
    assert (second["tree_sha"], second["pushed_files"]) == (first["tree_sha"], first["pushed_files"])
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_second_machine_adopts_it_and_the_printed_command_submits_it(site, run_cli, tmp_path, world_home):
    repo = tmp_path / "repo"
    write(repo / "code.py", "")
    planned = submit(run_cli, repo, EXECUTOR, *tasks(1, 3), "--dry-run")
    sent = run_cli(*shlex.split(planned["next_step"])[1:], cwd=tmp_path).data
    assert (planned["run_id"], sent["deduped"]) == (sent["run_id"], False)
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    (event, *_) = [
        json.loads(line) for line in next(world_home.path.rglob(f"{sent['run_id']}.jsonl")).read_text().splitlines()
    ]
    again = run_cli(*shlex.split(event["command"])[1:], cwd=tmp_path).data
    assert (again["run_id"], again["deduped"]) == (sent["run_id"], True)
    elsewhere = {"HPC_JOURNAL_DIR": str(tmp_path / "other")}
    (repo / ".hpc" / "runs" / f"{sent['run_id']}.json").unlink()
    words = ("reconcile", "--remote", "--cluster", "testbed")
    assert [run["run_id"] for run in run_cli(*words, cwd=repo, env=elsewhere).data["adopted"]] == [sent["run_id"]]
    adopted = submit(run_cli, repo, EXECUTOR, *tasks(1, 3), env=elsewhere)
    assert (adopted["run_id"], adopted["deduped"]) == (sent["run_id"], True)
    assert run_cli("status", cwd=repo, env=elsewhere).data["lifecycle_state"] == "complete"


@pytest.mark.parametrize("site", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[]", "1 to"),
        ('[{"a": 1}, {"1a": 2}]', "task 1 of tasks: '1a'"),
        ('[{"a": 1, "A": 2}]', "same variable"),
        ('[{"a": "\\u0000"}]', "NUL"),
        ("{}", "tasks"),
    ],
)
def test_wrong_tasks_are_refused(site, run_cli, tmp_path, given, said):
    outcome = run_cli("submit", "--cluster", "testbed", "--executor", "true", "--tasks", given, cwd=tmp_path)
    assert (outcome.code, outcome.envelope["error_code"]) == (1, "spec_invalid")
    assert said in outcome.envelope["message"]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_parameters_are_checked_as_those_of_tasks_py(site, run_cli, tmp_path):
    repo = tmp_path / "repo"
    write(
        repo / "train.py",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\n",
    )
    run_cli("build-tasks-py", "--executors", "train.py", "--axes", '{"lr": [1]}', cwd=repo)
    wrong = run_cli(
        "submit", "--cluster", "testbed", "--executor", "python3 .hpc/cli.py", "--tasks", '[{"rate": 1}]', cwd=repo
    )
    assert wrong.code == 1
    assert "rate" in wrong.envelope["message"]


FUNCTION = """from hpc_agent.experiment_kit import register_run

@register_run
def train(lr: float) -> dict:
    return {"loss": lr * 2}
"""


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_packed_functions_are_forked_with_the_parameters_of_the_request(site, run_cli, tmp_path):
    """FLAGS of tasks.py still say how a task is started; its grid is not read."""
    repo = tmp_path / "repo"
    write(repo / "train.py", FUNCTION)
    run_cli("build-tasks-py", "--executors", "train.py:train", "--axes", '{"lr": [100]}', cwd=repo)
    submit(run_cli, repo, "python3 .hpc/cli.py", "--tasks", '[{"lr": 1}, {"lr": 2}, {"lr": 3}]', "--pack", "3")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert sorted(row["metrics"]["loss"]["mean"] for row in aggregate(run_cli, repo)["rows"]) == [2, 4, 6]
