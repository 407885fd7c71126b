"""What every scheduler and transport must do alike: the same tests on SLURM, Grid Engine, OAR over SSH, SLURM here, and local."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from experiment import WRITE, aggregate, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"x": x} for x in range(count)]


def test_from_six_tasks_to_one_table(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": x, "seed": s} for x in (1, 2, 5) for s in (0, 1)])
    sent = submit(run_cli, repo, 'echo "{\\"y\\": $((X * 10 + SEED))}" > "$HPC_RESULT_DIR/metrics.json"; echo hello $X')
    assert (sent["deduped"], sent["submitted"], sent["total_tasks"], len(sent["job_ids"])) == (False, True, 6, 1)
    seen = watch(run_cli, repo)
    assert seen["lifecycle_state"] == "complete"
    assert seen["last_status"]["complete"] == 6

    table = aggregate(run_cli, repo)
    assert table["complete"]
    assert {(r["kwargs"]["x"], r["kwargs"]["seed"]): r["metrics"]["y"]["mean"] for r in table["rows"]} == {
        (x, s): x * 10 + s for x in (1, 2, 5) for s in (0, 1)
    }
    grouped = aggregate(run_cli, repo, "--over", "seed")
    assert [(r["kwargs"], r["metrics"]["y"]["mean"]) for r in grouped["rows"]] == [
        ({"x": 1}, 10.5),
        ({"x": 2}, 20.5),
        ({"x": 5}, 50.5),
    ]
    assert Path(table["table_csv"]).read_text().splitlines()[0] == "x,tasks,y_count,y_mean,y_std,y_ci95,y_min,y_max"
    logs = run_cli("logs", "--full", "--task-id", "0,5", cwd=repo).data["logs"]
    assert [(entry["task"], entry["content"]) for entry in logs] == [(0, "hello 1"), (5, "hello 5")]

    again = submit(
        run_cli, repo, 'echo "{\\"y\\": $((X * 10 + SEED))}" > "$HPC_RESULT_DIR/metrics.json"; echo hello $X'
    )
    assert (again["deduped"], again["run_id"], again["job_ids"]) == (True, sent["run_id"], sent["job_ids"])
    prior = run_cli("find-prior-run", "--cmd-sha", sent["cmd_sha"], cwd=repo).data
    assert (prior["found"], prior["prior_run_id"], prior["status"]) == (True, sent["run_id"], "complete")
    assert run_cli("list-in-flight", cwd=repo).data["runs"] == []


@pytest.mark.parametrize("site", ["slurm-tcsh", "slurm-fish"], indirect=True)
def test_the_login_shell_does_not_matter(site, run_cli, tmp_path, ssh_counter):
    """csh and fish read a line in other ways than sh: the main job of their users."""
    flag = site.scratch / "works-now"
    texts = ["it's\na \\ line!", "!! %s $HOME", "ü`x`"]
    repo = make_repo(tmp_path / "a repo!", [{"x": x, "text": text} for x, text in enumerate(texts)])
    executor = f'test $X != 1 -o -e {flag} && echo "hello! $TEXT" && {WRITE}'
    submit(run_cli, repo, executor)
    assert ssh_counter.count() <= 3, ssh_counter.lines()
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["last_status"]["failed"]) == (2, 1)
    flag.write_text("")
    assert run_cli("resubmit", "--classes", "code_error", cwd=repo).data["resubmitted"] == 1
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    ssh_counter.reset()
    assert run_cli("status", cwd=repo).data["last_status"]["complete"] == 3
    assert ssh_counter.count() == 1, ssh_counter.lines()
    logs = run_cli("logs", "--full", "--task-id", "0,2", cwd=repo).data["logs"]
    assert [entry["content"] for entry in logs] == [f"hello! {texts[0]}", f"hello! {texts[2]}"]
    assert sorted(row["metrics"]["y"]["mean"] for row in aggregate(run_cli, repo)["rows"]) == [0, 1, 2]


def test_kwargs_arrive_as_they_are(site, run_cli, tmp_path):
    """Newlines, quotes, substitutions and non-ASCII are data: nothing of them is ever run."""
    marker = tmp_path / "injected"
    hostile = [
        "two\nlines",
        'it\'s "quoted"',
        f"$(touch {marker})",
        f"`touch {marker}`; touch {marker} #",
        "a,b=c %s %d {x} \\",
        "naïve ∂x",
        "-rf *",
        "",
    ]
    repo = make_repo(
        tmp_path / "a repo, with ünusual (name)", [{"text": text, "path": "own", "n": None} for text in hostile]
    )
    dump = "import json, os; k = json.loads(os.environ['HPC_KW_JSON']); assert k['text'] == os.environ['TEXT'] == "
    dump += "os.environ['HPC_KW_TEXT'] and os.environ['PATH'] != 'own' == os.environ['HPC_KW_PATH'] and os.environ['N'] == ''; "
    dump += "json.dump({'size': len(k['text'])}, open(os.path.join(os.environ['HPC_RESULT_DIR'], 'metrics.json'), 'w'))"
    sent = submit(run_cli, repo, f'{site.cluster["python"]} -c "{dump}"')
    assert any("HPC_KW_PATH only" in note for note in sent["notes"])
    assert watch(run_cli, repo)["lifecycle_state"] == "complete", run_cli(
        "logs", "--full", "--all-failed", cwd=repo
    ).data
    rows = aggregate(run_cli, repo)["rows"]
    assert {row["kwargs"]["text"]: row["metrics"]["size"]["mean"] for row in rows} == {t: len(t) for t in hostile}
    assert not marker.exists()


def test_failures_are_failed_everywhere_and_say_why(site, run_cli, tmp_path):
    how = ["true", "exit 3", "no-such-program", "kill -9 $$", f"{site.cluster['python']} -c 'raise ValueError(42)'"]
    repo = make_repo(tmp_path / "repo", [{"how": text} for text in how])
    submit(run_cli, repo, 'eval "$HOW"')
    seen = watch(run_cli, repo)
    assert (seen["lifecycle_state"], seen["last_status"]["complete"], seen["last_status"]["failed"]) == ("failed", 1, 4)
    assert seen["failures_by_cause"] == {"code_error": 2, "command_not_found": 1, "signal": 1}
    status = run_cli("status", cwd=repo).data
    assert (status["failed_tasks"]["ranges"], status["failed_tasks"]["count"]) == ("1-4", 4)
    logs = run_cli("logs", "--full", "--all-failed", cwd=repo).data
    assert [entry["task"] for entry in logs["logs"]] == [1, 2, 3, 4]
    assert "no-such-program" in logs["logs"][1]["content"]
    assert "ValueError: 42" in logs["logs"][3]["content"]
    table = aggregate(run_cli, repo)
    assert (table["complete"], table["included_tasks"], table["failed_tasks"], table["without_metrics"]) == (
        False,
        1,
        "1-4",
        "0",
    )
    refused = run_cli("aggregate", "--require-complete", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (2, "outputs_missing")


def test_editing_the_repo_changes_nothing_that_was_submitted(site, run_cli, tmp_path):
    repo = make_repo(
        tmp_path / "repo",
        numbers(3),
        lib__value="1",
        run_sh='sleep 1; echo "{\\"y\\": $(cat lib/value)}" > "$HPC_RESULT_DIR/metrics.json"',
    )
    one_at_a_time = ["--max-running", "1"] if site.can("max_running") else []
    first = submit(run_cli, repo, "bash run_sh", *one_at_a_time)
    (repo / "lib" / "value").write_text("2")
    (repo / ".hpc" / "tasks.py").write_text("raise SystemExit('gone')")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert [row["metrics"]["y"]["mean"] for row in aggregate(run_cli, repo)["rows"]] == [1, 1, 1]

    make_repo(repo, numbers(3))
    second = submit(run_cli, repo, "bash run_sh")
    assert second["run_id"] != first["run_id"]
    assert second["pushed_files"] == 1, "only the changed file travels"
    assert any(first["run_id"] in note for note in second["notes"])


def test_relative_outputs_land_with_the_run_and_shared_data_is_linked(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(2), data__big="7", figures__old="x")
    executor = "echo $X > results/own-$X; echo $X > figures/f$X; mkdir -p new; echo $X > new/n$X; test -L data; "
    executor += 'echo "{\\"y\\": $(cat data/big)}" > "$HPC_RESULT_DIR/metrics.json"'
    sent = submit(run_cli, repo, executor, "--outputs", "results,figures", "--shared-paths", "data")
    assert watch(run_cli, repo)["lifecycle_state"] == "complete", run_cli(
        "logs", "--full", "--all-failed", cwd=repo
    ).data
    run = Path(sent["remote_path"])
    assert sorted(path.name for path in (run / "results").iterdir()) == ["0", "1", "own-0", "own-1"]
    assert sorted(path.name for path in (run / "outputs" / "figures").iterdir()) == ["f0", "f1"]
    assert sorted(path.name for path in (run / "work" / "new").iterdir()) == ["n0", "n1"]
    assert [row["metrics"]["y"]["mean"] for row in aggregate(run_cli, repo)["rows"]] == [7, 7]
    for name in ("results/new", "figures/new", ".hpc/axes.yaml"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text("axes_schema_version: 2\n")
    again = submit(run_cli, repo, executor, "--outputs", "results,figures", "--shared-paths", "data")
    assert (again["run_id"], again["deduped"]) == (sent["run_id"], True), (
        "what tasks and verbs write is no part of the run"
    )
    snapshot = next((run.parent.parent / "snapshots").iterdir())
    assert not (snapshot / "new").exists()
    assert not (snapshot / "data").exists()


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_a_folder_that_was_shared_can_be_pushed(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(1), data__big="7", other__x="1")
    executor = (
        'test -L data || echo "{\\"y\\": $(cat data/big other/x)}" | tr -d "\\n" > "$HPC_RESULT_DIR/metrics.json"'
    )
    submit(run_cli, repo, executor, "--shared-paths", "data,other")
    for shared in ("other", ""):
        (repo / "note").write_text(shared)
        sent = submit(run_cli, repo, executor, *(["--shared-paths", shared] if shared else []))
        assert (Path(sent["remote_path"]) / "work" / "data" / "big").read_text() == "7"
        assert watch(run_cli, repo)["lifecycle_state"] == "complete"
        assert [row["metrics"]["y"]["mean"] for row in aggregate(run_cli, repo)["rows"]] == [71]


def test_waves_offsets_and_packs(site, run_cli, tmp_path, clusters_file, ssh_counter):
    limits = {"max_array_size": 3, "max_concurrent_jobs": 2, "est_spin_up": "1s"}
    clusters_file.write_text(site.clusters_yaml(constraints=limits, min_poll_sec=1))
    repo = make_repo(tmp_path / "repo", numbers(25))
    sent = submit(run_cli, repo, WRITE, "--pack", "2")
    assert (len(sent["job_ids"]), sent["plan"]["n_waves"], sent["plan"]["pack"]) == (5, 3, 2)
    assert watch(run_cli, repo, 180)["lifecycle_state"] == "complete"
    table = aggregate(run_cli, repo)
    assert table["combined_waves"] == [0, 1, 2]
    assert sorted(row["metrics"]["y"]["mean"] for row in table["rows"]) == list(range(25))
    one = aggregate(run_cli, repo, "--wave", "1")
    assert (one["combined_waves"], one["waves_combined_this_call"]) == ([1], [])
    assert 0 < one["included_tasks"] < 25
    ssh_counter.reset()
    checked = run_cli("verify-aggregation-complete", "--expected-columns", "y", cwd=repo).data
    assert (checked["combined_waves"], checked["combined_tasks"], checked["columns_checked"]) == (3, 25, ["y"])
    assert ssh_counter.count() == (1 if site.transport == "ssh" else 0), ssh_counter.lines()


@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "oar-ssh", "slurm-local"], indirect=True)
def test_what_the_scheduler_refuses_is_said_in_its_words(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(2))
    refused = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, "--partition", "nosuch", cwd=repo)
    assert (refused.code, refused.envelope["error_code"]) == (2, "scheduler_refused")
    assert "nosuch" in refused.envelope["message"] or "partition" in refused.envelope["message"].lower()
    assert "hpc-agent" in refused.envelope["remediation"] or "sinfo" in refused.envelope["remediation"]
    assert not refused.envelope["retry_safe"]
    corrected = submit(run_cli, repo, WRITE)
    assert corrected["submitted"], "the same run goes through once the request is right"
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def test_two_submits_at_the_same_moment_are_one_run(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(4))
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(submit(run_cli, repo, WRITE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 3
    assert len({answer["run_id"] for answer in answers}) == 1
    assert len({tuple(answer["job_ids"]) for answer in answers}) == 1
    assert sorted(answer["deduped"] for answer in answers) == [False, True, True]
    assert watch(run_cli, repo)["last_status"]["complete"] == 4


def test_a_lost_laptop_submits_nothing_twice(site, run_cli, tmp_path, world_home):
    """Without journal and sidecar the same request finds the arrays in the cluster's ledger."""
    repo = make_repo(tmp_path / "repo", numbers(3))
    first = submit(run_cli, repo, WRITE)
    for path in (world_home.path / ".claude").rglob("*.jsonl"):
        path.unlink()
    for path in (repo / ".hpc" / "runs").iterdir():
        path.unlink()
    second = submit(run_cli, repo, WRITE)
    assert (second["run_id"], second["job_ids"]) == (first["run_id"], first["job_ids"])
    assert watch(run_cli, repo)["last_status"]["complete"] == 3


def test_a_failed_run_is_run_again_only_on_request(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(2))
    flag = site.scratch / "works-now"
    executor = f"test -e {flag} && {WRITE}"
    first = submit(run_cli, repo, executor)
    assert watch(run_cli, repo)["lifecycle_state"] == "failed"
    again = submit(run_cli, repo, executor)
    assert again["deduped"]
    assert any("--rerun" in note for note in again["notes"])
    flag.write_text("")
    rerun = submit(run_cli, repo, executor, "--rerun")
    assert rerun["run_id"] == first["run_id"] + "-r1"
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def test_a_declared_metrics_file_must_be_there(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", numbers(3))
    executor = 'test $X = 1 || printf "loss,n\\n0.5,2\\n1.5,4\\n" > "$HPC_RESULT_DIR/out.csv"'
    submit(run_cli, repo, executor, "--metrics-file", "out.csv")
    seen = watch(run_cli, repo)
    assert (seen["last_status"]["complete"], seen["failures_by_cause"]) == (2, {"no_output": 1})
    rows = aggregate(run_cli, repo)["rows"]
    assert [(row["metrics"]["loss"]["count"], row["metrics"]["loss"]["mean"]) for row in rows] == [(2, 1.0), (2, 1.0)]


def test_resolve_must_say_on_the_node_what_it_said_here(site, run_cli, tmp_path):
    source = "import os\n\ndef total():\n    return 2\n\ndef resolve(task_id):\n"
    source += "    return {'x': task_id, 'where': 'node' if 'HPC_RUN_DIR' in os.environ else 'client'}\n"
    repo = make_repo(tmp_path / "repo", source)
    submit(run_cli, repo, WRITE)
    seen = watch(run_cli, repo)
    assert seen["last_status"]["failed"] == 2
    assert "other parameters" in json.dumps(seen["samples"])


def test_a_run_whose_folder_is_gone(site, run_cli, tmp_path):
    import shutil

    repo = make_repo(tmp_path / "repo", numbers(1))
    sent = submit(run_cli, repo, WRITE)
    watch(run_cli, repo)
    shutil.rmtree(sent["remote_path"])
    lost = run_cli("status", cwd=repo)
    assert (lost.code, lost.envelope["error_code"]) == (1, "run_not_found")
    assert "hpc-agent submit" in lost.envelope["remediation"]
