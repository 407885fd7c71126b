"""``submit-flow-batch``: several runs with one push and one round trip, each exactly once; a wrong spec stops no other."""

from __future__ import annotations

import json

import pytest
from experiment import WRITE, aggregate, make_repo, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
SCALED = WRITE.replace("$X", "$((X * N))")
SSH_ONE_SUBMIT = {"ssh": 1, "rsync": 0}


def batch(run_cli, repo, verb, specs, *flags, **fields):
    """The outcome of a batch as a whole call: its document comes on standard input."""
    document = {"specs": specs, **fields}
    return run_cli(verb, "--spec", "-", "--full", *flags, cwd=repo, stdin=json.dumps(document))


def three(**more):
    return [
        {"executor": SCALED.replace("N", str(factor)), "run_name": f"times{factor}", **more} for factor in (1, 2, 3)
    ]


def test_one_push_and_one_round_trip(site, run_cli, tmp_path, ssh_counter):
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])
    sent = batch(run_cli, repo, "submit", three(), "--cluster", "testbed").data
    if site.transport == "ssh":
        counts = {kind: ssh_counter.count(kind) for kind in SSH_ONE_SUBMIT}
        assert counts == SSH_ONE_SUBMIT, ssh_counter.lines()
    assert (sent["n_results"], sent["n_failed"], sent["deduped"]) == (3, 0, False)
    assert [one["run_id"].split("-")[0] for one in sent["results"]] == ["times1", "times2", "times3"]
    assert len({job for one in sent["results"] for job in one["job_ids"]}) == 3
    ssh_counter.reset()
    again = batch(run_cli, repo, "submit-flow-batch", three(), common={"cluster": "testbed"}).data
    assert again["deduped"]
    assert [one["job_ids"] for one in again["results"]] == [one["job_ids"] for one in sent["results"]]
    assert ssh_counter.count() == 0, "runs that are known to be there need no question"
    for factor, one in enumerate(sent["results"], 1):
        seen = run_cli(
            "monitor-flow", "--run-id", one["run_id"], "--wall-clock-budget-sec", "120", cwd=repo, timeout=180
        )
        assert seen.data["lifecycle_state"] == "complete"
        rows = aggregate(run_cli, repo, "--run-id", one["run_id"])["rows"]
        assert [row["metrics"]["y"]["mean"] for row in rows] == [factor, 2 * factor]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_wrong_spec_does_not_lose_the_others(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    specs = three()
    specs[1] = {**specs[1], "executor": "./missing.sh", "run_name": "bad"}
    specs.insert(0, {"executor": WRITE, "resources": {"cpus": 100_000}})  # refused on the cluster
    specs += [
        {"executor": WRITE, "misspelt": 1},
        {"cluster": "nowhere", "executor": WRITE},
        specs[1],
        {**specs[1], "pack": 1},
    ]
    specs.append({"executor": WRITE, "shared_paths": ["missing"]})
    answer = batch(run_cli, repo, "submit-flow", specs, cluster="testbed")
    sent = answer.data
    codes = [one.get("error_code") for one in sent["results"]]
    assert codes == [
        "scheduler_refused", None, "executor_not_found", None, "spec_invalid", "cluster_unknown", None, None, "spec_invalid",
    ]  # fmt: skip
    assert sent["n_failed"] == 5
    assert [one["code"] for one in answer.envelope["partial_errors"]] == list(filter(None, codes))
    assert answer.envelope["partial_errors"][0]["detail"].startswith("spec 0: ")
    assert [one for one in sent["results"] if not one["ok"] and "hpc-agent" not in one["remediation"]] == []
    same = [sent["results"][number] for number in (1, 6, 7)]
    assert [(one["run_id"], one["job_ids"], one.get("deduped", False)) for one in same] == [
        (same[0]["run_id"], same[0]["job_ids"], deduped) for deduped in (False, True, True)
    ]
    assert [one.get("submitted", False) for one in same] == [True, False, False]
    runs = run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"]
    assert sorted(run["run_id"].rpartition("-")[0] for run in runs if run.get("job_ids")) == ["times1", "times3"]
    watch(run_cli, repo)


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_inline_tasks_of_a_known_snapshot_and_two_snapshots(site, run_cli, tmp_path):
    """Runs whose files differ (here by an output folder) are pushed apart; those of one snapshot go together."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], figures__old="1")
    specs = [{"tasks": [{"x": number}], "run_name": f"inline{number}"} for number in range(4)]
    common = {"cluster": "testbed", "executor": WRITE}
    first = batch(run_cli, repo, "submit", specs[:2], **common).data
    more = batch(
        run_cli, repo, "submit", [*specs[2:], {"run_name": "figures", "outputs": ["results", "figures"]}], **common
    ).data
    assert (first["n_failed"], more["n_failed"]) == (0, 0)
    for one in (*first["results"], *more["results"]):
        seen = run_cli("monitor-flow", "--run-id", one["run_id"], "--wall-clock-budget-sec", "60", cwd=repo)
        assert seen.data["lifecycle_state"] == "complete", one
    values = [
        aggregate(run_cli, repo, "--run-id", one["run_id"])["overall"]["y"]["mean"]
        for one in (*first["results"], *more["results"])
    ]
    assert values == [0, 1, 2, 3, 1]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_plan_of_a_batch_and_what_cannot_be_one(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    other = make_repo(tmp_path / "other", [{"x": 1}])
    planned = batch(run_cli, repo, "submit", three(), "--cluster", "testbed", "--dry-run").data
    assert [one["lifecycle_state"] for one in planned["results"]] == ["planned"] * 3
    assert run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"] == []
    two = batch(run_cli, repo, "submit", [*three(), *three(experiment_dir=str(other))], cluster="testbed")
    assert (two.code, two.envelope["field"]) == (1, "specs.experiment_dir")
    wrong = batch(run_cli, repo, "submit", three(), cluster="nowhere")
    assert (wrong.code, wrong.envelope["error_code"]) == (1, "cluster_unknown")
    assert len(wrong.envelope["details"]["results"]) == 3
    for specs in ([], "x", [1]):
        assert batch(run_cli, repo, "submit", specs, cluster="testbed").envelope["error_code"] == "spec_invalid"


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_killed_batch_goes_on(site, run_cli, tmp_path, world_home):
    """The client forgets everything after the cluster accepted the batch: the same call adopts each array."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = batch(run_cli, repo, "submit", three(), cluster="testbed").data
    for path in (world_home.path / ".claude").rglob("*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        assert json.loads(lines[0])["event"] == "submitting"
        path.write_text(lines[0] + '{"event": "submi')
    again = batch(run_cli, repo, "submit", three(), cluster="testbed").data
    assert [one["job_ids"] for one in again["results"]] == [one["job_ids"] for one in sent["results"]]
    for one in again["results"]:
        seen = run_cli("monitor-flow", "--run-id", one["run_id"], "--wall-clock-budget-sec", "60", cwd=repo)
        assert seen.data["last_status"]["complete"] == 1
