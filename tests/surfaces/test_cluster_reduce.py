"""cluster-reduce and aggregate --mode cluster-reduce through the command line, on the embedded scheduler."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

from hpc_agent.experiment_kit.series import plan_tasks

pytestmark = [pytest.mark.usefixtures("clusters_file"), pytest.mark.parametrize("site", ["local"], indirect=True)]
REDUCER = '''"""Adds the metric up."""
import json
import os
import sys

import helper

tasks = [json.loads(line) for line in open(os.environ["HPC_TASKS"])]
print("reducing", len(tasks), file=sys.stderr)
values = [json.load(open(task["result_dir"] + "/metrics.json"))["y"] for task in tasks]
answer = {"sum": sum(values) * helper.FACTOR, "run": os.environ["HPC_RUN_ID"], "mode": os.environ["MODE"]}
with open(os.environ["HPC_AGGREGATED_OUTPUT"], "w") as handle:
    json.dump(answer, handle)
with open("summary.csv", "w") as handle:
    handle.write("sum\\n%d\\n" % sum(values))
with open(os.environ["RUNS"], "a") as handle:
    handle.write("ran\\n")
'''
# Task 4 fails unless the file is there.
EXECUTOR = '''[ "$X" != 4 ] || [ -e "$GO" ] || exit 3; echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'''


@pytest.fixture
def repo(tmp_path, site, run_cli):
    files = {"scripts__aggregate_all.py": REDUCER, "scripts__helper.py": "FACTOR = 10\n"}
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(6)], **files)
    env = {"MODE": "fast", "RUNS": str(tmp_path / "runs"), "GO": str(tmp_path / "go")}
    submit(run_cli, repo, EXECUTOR, "--env", json.dumps(env))
    watch(run_cli, repo)
    return repo


def ran(tmp_path):
    path = tmp_path / "runs"
    return len(path.read_text().split()) if path.exists() else 0


def until_ended(run_cli, repo, *words):
    deadline = time.monotonic() + 60
    while True:
        answer = run_cli(*words, cwd=repo)
        if not answer.envelope["ok"] or answer.data["state"] == "ended":
            return answer
        assert time.monotonic() < deadline, answer.data


def test_the_found_reducer_runs_once_over_the_same_tasks(repo, run_cli, tmp_path):
    first = run_cli("cluster-reduce", "--files", "summary.*", cwd=repo).data
    run_id = first["run_id"]
    assert (first["reducer"], first["fresh"]) == ("scripts/aggregate_all.py", True)
    assert first["reduced"] == {"sum": 110, "run": run_id, "mode": "fast"}
    assert (first["included_tasks"], first["failed_tasks"], first["total_tasks"]) == (5, "4", 6)
    assert (first["stderr_tail"], first["next_step"]) == ("reducing 5", f"hpc-agent failures --run-id {run_id}")
    folder = Path(first["output_path_local"]).parent
    assert folder == repo / "results" / run_id / "reduced" / "scripts_aggregate_all"
    assert json.loads((folder / "aggregated.json").read_text()) == first["reduced"]
    assert (folder / "files" / "summary.csv").read_text() == "sum\n11\n"
    assert json.loads((folder / "reduction.json").read_text())["included"] == "0-3,5"
    assert first["total_bytes"] == sum(entry["bytes"] for entry in first["files"])

    again = run_cli("cluster-reduce", "--files", "summary.*", cwd=repo).data
    assert {**again, "fresh": True} == first
    assert ran(tmp_path) == 1
    incomplete = run_cli("cluster-reduce", "--files", "summary.*", "--require-complete", cwd=repo).envelope
    assert (incomplete["error_code"], incomplete["details"]["failed_tasks"]) == ("outputs_missing", "4")

    # Another task is complete: another answer. Other code: too, and the answer says which.
    (tmp_path / "go").touch()
    run_cli("resubmit", "--classes", "code_error", cwd=repo)
    watch(run_cli, repo)
    whole = run_cli("cluster-reduce", "--files", "summary.*", cwd=repo).data
    assert (whole["reduced"]["sum"], whole["included_tasks"], ran(tmp_path)) == (150, 6, 2)
    assert not {"failed_tasks", "missing_count", "next_step", "notes"} & set(whole)
    script = repo / "scripts" / "aggregate_all.py"
    script.write_text(script.read_text().replace('"sum":', '"total":'))
    answer = run_cli("aggregate", "--mode", "cluster-reduce", cwd=repo).data
    assert (answer["complete"], answer["reduction"]["reduced"]["total"], ran(tmp_path)) == (True, 150, 3)
    assert "is not the file that the run was submitted with" in answer["notes"][0]
    refused = run_cli("aggregate", "--reducer", "scripts/aggregate_all.py", "--sort", "y", cwd=repo).envelope
    assert (refused["error_code"], refused["field"]) == ("spec_invalid", "sort")
    assert refused["remediation"] == "Run: hpc-agent aggregate --sort y --mode combiner-only"


def test_a_reducer_that_fails_says_why_and_is_not_run_again(repo, run_cli, tmp_path):
    words = ["cluster-reduce", "--aggregate-cmd", 'echo ran >> "$RUNS"; echo no column loss >&2; exit 7']
    red = run_cli(*words, cwd=repo)
    assert (red.code, red.envelope["error_code"]) == (2, "combiner_failed")
    details = red.envelope["details"]
    assert (details["exit_code"], details["stderr_tail"]) == (7, "no column loss")
    assert (details["included_tasks"], details["failed_tasks"]) == (5, "4")
    assert red.envelope["remediation"].endswith("--force")
    assert "not run again" in run_cli(*words, cwd=repo).envelope["message"]
    assert ran(tmp_path) == 1
    assert run_cli(*words, "--force", cwd=repo).envelope["details"]["exit_code"] == 7
    assert ran(tmp_path) == 2

    slow = run_cli("cluster-reduce", "--aggregate-cmd", "sleep 60", "--timeout-sec", "1", cwd=repo).envelope
    assert "stopped after 1 s" in slow["message"]
    assert "--as-job" in slow["remediation"]
    assert "--timeout-sec" not in slow["remediation"]
    for flags in (("--as-job", "--timeout-sec", "3"), ("--mem-mb", "100")):
        ignored = run_cli("cluster-reduce", "--aggregate-cmd", "true", *flags, cwd=repo).envelope
        assert (ignored["error_code"], ignored["field"]) == ("spec_invalid", flags[-2][2:].replace("-", "_"))
    nothing = run_cli("cluster-reduce", "--aggregate-cmd", "true", cwd=repo).envelope
    assert "did not write" in nothing["message"]
    torn = 'echo "{\\"a\\": " > "$HPC_AGGREGATED_OUTPUT"'
    assert "is no JSON" in run_cli("cluster-reduce", "--aggregate-cmd", torn, cwd=repo).envelope["message"]
    lost = ("cluster-reduce", "--aggregate-cmd", "true", "--files", "nothing*.csv")
    assert "no file matches nothing*.csv" in run_cli(*lost, cwd=repo).envelope["message"]
    for flag, value in (("--files", "../x"), ("--output-path", "/etc/x"), ("--extra-env", '{"PATH": "/x"}')):
        refused = run_cli("cluster-reduce", "--aggregate-cmd", "true", flag, value, cwd=repo).envelope
        assert (refused["error_code"], refused["field"]) == ("spec_invalid", flag[2:].replace("-", "_"))


def test_the_reducer_that_was_named_at_submit_is_that_of_aggregate(run_cli, tmp_path, site):
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    words = ('echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"',)
    own = 'wc -l < "$HPC_TASKS" | sed "s/.*/[&]/"'
    sent = submit(run_cli, repo, *words, "--aggregate-cmd", own)
    assert submit(run_cli, repo, *words)["run_id"] == sent["run_id"], "the reducer makes no other run"
    watch(run_cli, repo)
    found = run_cli("aggregate", cwd=repo).data["reduction"]
    assert (found["reduced"], found["reducer"]) == ([3], own)
    assert run_cli("cluster-reduce", cwd=repo).data["reduced"] == [3]
    table = run_cli("aggregate", "--sort", "y", "--direction", "maximize", cwd=repo).data
    assert (table["rows"][0], "reduction" in table) == ([2, 2], False), "a flag of the built-in table asks for it"
    assert "reduction" not in run_cli("aggregate", "--mode", "combiner-only", cwd=repo).data
    refused = run_cli("aggregate", "--mode", "combiner-only", "--as-job", cwd=repo).envelope
    assert (refused["error_code"], refused["field"]) == ("spec_invalid", "as_job")
    assert refused["remediation"] == "Run: hpc-agent aggregate --as-job --mode cluster-reduce"


def test_output_at_a_path_of_the_reducer_and_on_its_last_line(repo, run_cli):
    own = 'echo "{\\"v\\": $VALUE}" > out.json'
    words = ("cluster-reduce", "--aggregate-cmd", own, "--output-path", "out.json", "--extra-env", '{"VALUE": "7"}')
    assert run_cli(*words, cwd=repo).data["reduced"] == {"v": 7}
    stale = run_cli("cluster-reduce", "--aggregate-cmd", "true", "--output-path", "out.json", cwd=repo).envelope
    assert "was not written by this reducer" in stale["message"]
    printed = run_cli("cluster-reduce", "--aggregate-cmd", "echo working; echo [1, NaN]", cwd=repo).data
    assert (printed["reduced"], "shown as text" in printed["notes"][0]) == ("[1, NaN]", True)
    for count in (2000, 100_000):  # the second is too large for the answer of the node too
        big = run_cli("cluster-reduce", "--aggregate-cmd", f"seq -s, 1 {count} | sed 's/.*/[&]/'", cwd=repo).data
        assert (big["truncated"], "reduced" in big, "the JSON has" in big["notes"][0]) == (True, False, True)
        assert json.loads(Path(big["output_path_local"]).read_text()) == list(range(1, count + 1))
    kept = ("--files", "big", "--max-mb", "1", "--aggregate-cmd", "head -c 2000000 /dev/zero > big")
    answer = run_cli("cluster-reduce", *kept, cwd=repo).data
    assert (answer["total_bytes"], answer["truncated"]) == (2000000, True)
    assert "2000000 bytes of files stayed in" in answer["notes"][0]


def test_a_job_waits_for_the_arrays_and_is_submitted_once(run_cli, tmp_path, site):
    repo = make_repo(
        tmp_path / "repo", [{"x": x} for x in range(3)], **{"reduce_all.py": REDUCER, "helper.py": "FACTOR = 1\n"}
    )
    env = {"MODE": "slow", "RUNS": str(tmp_path / "runs"), "GO": str(tmp_path / "go")}
    wait = 'while [ ! -e "$GO" ]; do sleep 0.1; done; echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json"'
    submit(run_cli, repo, wait, "--env", json.dumps(env))
    early = run_cli("cluster-reduce", cwd=repo).envelope
    assert (early["error_code"], "no task" in early["message"]) == ("precondition_failed", True)
    sent = run_cli("cluster-reduce", "--as-job", cwd=repo).data
    assert (sent["ok"], sent["state"], sent["fresh"]) == (False, "queued", True)
    assert sent["next_step"] == f"hpc-agent cluster-reduce --run-id {sent['run_id']} --as-job"
    for words in (["cluster-reduce", "--as-job"], ["cluster-reduce"], ["cluster-reduce", "--as-job", "--force"]):
        again = run_cli(*words, cwd=repo).data
        assert (again["job_id"], again["state"], again.get("fresh")) == (sent["job_id"], "queued", None)
    part = run_cli("aggregate", "--mode", "cluster-reduce", "--as-job", cwd=repo).data
    assert part["reduction"]["job_id"] == sent["job_id"]
    (tmp_path / "go").touch()
    watch(run_cli, repo)
    ended = until_ended(run_cli, repo, "cluster-reduce", "--as-job").data
    assert (ended["reduced"]["sum"], ended["included_tasks"], ended["job_id"]) == (3, 3, sent["job_id"])
    assert run_cli("cluster-reduce", cwd=repo).data["reduced"] == ended["reduced"]
    assert ran(tmp_path) == 1

    # A job that is killed with its reducer, and one that fails.
    killed = ("cluster-reduce", "--as-job", "--aggregate-cmd", "echo begun; kill -9 $PPID")
    red = until_ended(run_cli, repo, *killed).envelope
    assert red["error_code"] == "combiner_failed"
    assert "ended without a result" in red["message"]
    failing = ("cluster-reduce", "--as-job", "--aggregate-cmd", "echo sad >&2; exit 4")
    red = until_ended(run_cli, repo, *failing).envelope
    assert (red["details"]["exit_code"], red["details"]["stderr_tail"]) == (4, "sad")


def test_a_reducer_that_outlives_its_killed_caller_is_not_started_twice(repo, run_cli, tmp_path):
    kill = 'echo ran >> "$RUNS"; kill -9 $(ps -o ppid= -p $PPID); while [ ! -e "$GO" ]; do sleep 0.1; done; echo [1]'
    words = ["cluster-reduce", "--aggregate-cmd", kill]
    assert run_cli(*words, cwd=repo).envelope["error_code"] == "remote_command_failed"
    still = run_cli(*words, cwd=repo).data
    assert (still["ok"], still["state"], "job_id" in still) == (False, "running", False)
    assert "its caller was killed" in still["notes"][0]
    (tmp_path / "go").touch()
    assert until_ended(run_cli, repo, *words).data["reduced"] == [1]
    assert ran(tmp_path) == 1


def test_which_reducer_is_asked_where_several_may_be_meant(run_cli, tmp_path, site):
    repo = make_repo(tmp_path / "repo", [{"x": 1}], **{"reduce_a.py": "print([])\n", "reduce_b.py": "print([])\n"})
    submit(run_cli, repo, 'echo "{\\"y\\": 1}" > "$HPC_RESULT_DIR/metrics.json"')
    watch(run_cli, repo)
    asked = run_cli("cluster-reduce", cwd=repo).envelope
    assert (asked["error_code"], asked["field"]) == ("spec_invalid", "reducer")
    assert "--reducer reduce_a.py; hpc-agent cluster-reduce" in asked["remediation"]
    assert run_cli("cluster-reduce", "--reducer", "reduce_b.py", cwd=repo).data["reduced"] == []


SERIES = """
import csv
import json
import os

from hpc_agent.experiment_kit.series import load_series, trim_emission

task = json.loads(os.environ["HPC_KW_JSON"])
if task["start"] == 250 and task["window"] == 5 and not os.path.exists(os.environ["GO"]):
    raise SystemExit(3)
rows = load_series([float(x * x % 97) for x in range(1000)])
means = [sum(rows[max(0, i - task["window"] + 1) : i + 1]) / task["window"] for i in range(len(rows))]
if task["start"] != 500:  # this one leaves the rows of its halo to the join
    means = trim_emission(means)
with open(os.environ["HPC_RESULT_DIR"] + "/means.csv", "w", newline="") as handle:
    writer = csv.writer(handle)
    writer.writerow(["mean"])
    writer.writerows([mean] for mean in means)
json.dump({"rows": len(means)}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""


def test_the_chunks_of_a_series_become_one_file_and_gaps_are_named(run_cli, tmp_path, site):
    axis = {"kind": "bounded_halo", "halo": "window - 1"}
    tasks = plan_tasks([{"window": 20}, {"window": 5}], axis, chunks=4, series_length=1000)
    repo = make_repo(tmp_path / "repo", tasks, **{"work.py": SERIES})
    sent = submit(run_cli, repo, "python3 work.py", "--env", json.dumps({"GO": str(tmp_path / "go")}))
    watch(run_cli, repo)
    part = run_cli("join-series", "--file", "means.csv", cwd=repo).data
    assert (part["complete"], part["series_count"], part["with_gaps"], part["rows"]) == (False, 2, 1, 1750)
    broken, whole = part["series"]
    assert broken["gaps"] == [{"why": "failed", "rows": "250-499", "tasks": "5"}]
    assert (broken["file"], whole["file"]) == ("window=5.partial.csv", "window=20.csv")
    assert part["next_step"] == f"hpc-agent failures --run-id {sent['run_id']}"
    folder = Path(part["path_local"])
    assert folder == repo / "results" / sent["run_id"] / "series"
    kept = json.loads((folder / "series.json").read_text())["series"]
    assert [entry["segments"] for entry in kept] == [[[0, 1000]], [[0, 250], [500, 1000]]]

    series = [float(x * x % 97) for x in range(1000)]
    for window, rows in ((20, [*range(1000)]), (5, [*range(250), *range(500, 1000)])):
        name = f"window={window}{'' if window == 20 else '.partial'}.csv"
        means = [sum(series[max(0, i - window + 1) : i + 1]) / window for i in rows]
        assert [float(line) for line in (folder / name).read_text().splitlines()[1:]] == means
    red = run_cli("join-series", "--file", "means.csv", "--require-complete", cwd=repo).envelope
    assert (red["error_code"], red["details"]["series"][0]["gaps"][0]["rows"]) == ("outputs_missing", "250-499")

    (tmp_path / "go").touch()
    run_cli("resubmit", "--classes", "code_error", cwd=repo)
    watch(run_cli, repo)
    done = run_cli("join-series", "--file", "means.csv", "--require-complete", cwd=repo).data
    assert (done["complete"], done["rows"], done["joined_now"]) == (True, 2000, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["series.json", "window=20.csv", "window=5.csv"]
    assert done["total_bytes"] == sum((folder / f"window={window}.csv").stat().st_size for window in (5, 20))
    nothing = run_cli("join-series", "--file", "nothing.csv", cwd=repo).data
    assert nothing["series"][0]["gaps"] == [{"why": "wrote no nothing.csv", "rows": "0-999", "tasks": "0-3"}]
    kept = run_cli("join-series", "--file", "means.parquet", cwd=repo).envelope
    assert (kept["error_code"], "only .csv" in kept["message"]) == ("spec_invalid", True)
