"""``write-run-sidecar``: whole facts, and never over those of another run."""

from __future__ import annotations

import hashlib
import json

import pytest
from experiment import make_repo

from hpc_agent.contract.envelope import convert
from hpc_agent.errors import HpcError
from hpc_agent.ops.submit.run_identity import FindPriorRunRequest, find_prior_run
from hpc_agent.ops.submit.write_sidecar import WriteRunSidecarRequest, write_run_sidecar
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.state.runs import read_run_sidecar
from hpc_agent.world import World

FACTS = {
    "run_id": "sweep-0123abcd",
    "cluster": "local",
    "executor": "python3 train.py",
    "cmd_sha": "a" * 64,
    "task_count": 4,
}


@pytest.fixture
def repo(tmp_path):
    return RepoLayout(make_repo(tmp_path / "repo", [{"x": 1}]))


@pytest.fixture
def world(tmp_path, repo):
    return World(cwd=repo.root, env={"HOME": str(tmp_path)}, now=lambda: 1_800_000_000.0)


def written(world, **fields):
    request = convert({**FACTS, **fields}, WriteRunSidecarRequest, "write-run-sidecar")
    return write_run_sidecar(request, world)


def test_what_is_left_out_follows_from_repo_and_cluster(repo, world):
    first = written(world)
    assert not first.deduped
    sidecar = read_run_sidecar(repo, "sweep-0123abcd")
    assert (sidecar.run_name, sidecar.scheduler, sidecar.wave_map) == ("sweep", "local", {"0": "0-3"})
    assert sidecar.tasks_py_sha == hashlib.sha256(repo.tasks.read_bytes()).hexdigest()
    assert sidecar.remote_path.endswith(f"/hpc-agent/{repo.remote_name}/runs/sweep-0123abcd")
    assert sidecar.submitted_at == "2027-01-15T08:00:00Z"
    assert written(World(cwd=repo.root, env=world.env)).deduped, "the same call changes nothing, whatever the time"
    prior = find_prior_run(FindPriorRunRequest(cmd_sha="a" * 64), world)
    assert (prior.prior_run_id, prior.is_orphan) == ("sweep-0123abcd", True)
    assert not written(world, job_ids=["12", "13"]).deduped, "job ids come after the submission"
    assert written(world, job_ids=["12", "13"]).deduped
    assert written(world).deduped, "and stay"
    assert read_run_sidecar(repo, "sweep-0123abcd").job_ids == ["12", "13"]
    assert not find_prior_run(FindPriorRunRequest(cmd_sha="a" * 64), world).is_orphan


@pytest.mark.parametrize(
    "other",
    [
        {"cmd_sha": "b" * 64}, {"executor": "python3 other.py"}, {"task_count": 5}, {"tasks_py_sha": "c" * 64},
        {"job_ids": ["99"]}, {"campaign_id": "c"}, {"resources": {"cpus": 2}}, {"wave_map": {"0": "0-1", "1": "2-3"}},
    ],
)  # fmt: skip
def test_another_run_is_never_overwritten(repo, world, other):
    written(world, job_ids=["12"])
    before = repo.sidecar("sweep-0123abcd").read_bytes()
    with pytest.raises(HpcError) as error:
        written(world, **other)
    assert error.value.error_code == "precondition_failed"
    assert next(iter(other)) in error.value.message
    assert repo.sidecar("sweep-0123abcd").read_bytes() == before


def test_a_run_of_the_journal_is_never_taken(repo, world):
    Journal(world, repo).append(
        "sweep-0123abcd", "submitting", cluster="local", cmd_sha="f" * 64, executor="python3 train.py"
    )
    with pytest.raises(HpcError, match="its cmd_sha"):
        written(world)
    assert not repo.sidecar("sweep-0123abcd").exists()


def test_a_torn_sidecar_is_not_overwritten(repo, world):
    written(world)
    repo.sidecar("sweep-0123abcd").write_text("{")
    with pytest.raises(HpcError) as error:
        written(world)
    assert error.value.error_code == "journal_corrupt"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"run_id": "../x"}, "run_id"), ({"run_id": "-x"}, "run_id"), ({"cmd_sha": "abc"}, "cmd_sha"),
        ({"task_count": 0}, "task_count"), ({"total_tasks": 5}, "task_count"), ({"task_count": None}, "task_count"),
        ({"wave_map": {"0": [0, 1, 2]}}, "wave_map"), ({"wave_map": {"0": "0-3", "1": "3"}}, "wave_map"),
        ({"wave_map": {"x": "0-3"}}, "wave_map"), ({"wave_map": {"0": "a"}}, "wave_map"), ({"profile": "p"}, "profile"),
        ({"remote_path": "relative"}, "remote_path"), ({"remote_path": "/a;b"}, "remote_path"), ({"job_ids": ["x"]}, None),
        ({"submitted_at": "today"}, "submitted_at"), ({"cluster": "nowhere"}, None), ({"executor": ""}, "executor"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_is_named(repo, world, fields, field):
    with pytest.raises(HpcError) as error:
        written(world, **fields)
    assert error.value.exit_code == 1
    assert field is None or error.value.field == field
    assert not repo.runs.exists()


def test_the_other_names_of_the_fields(repo, world):
    facts = {key: value for key, value in FACTS.items() if key != "task_count"}
    request = convert({**facts, "total_tasks": 4, "wave_map": {"0": [0, 2], "1": [1, 3]}}, WriteRunSidecarRequest, "v")
    write_run_sidecar(request, world)
    assert read_run_sidecar(repo, "sweep-0123abcd").wave_map == {"0": "0,2", "1": "1,3"}
    assert json.loads(repo.sidecar("sweep-0123abcd").read_bytes())["task_count"] == 4
