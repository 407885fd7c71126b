"""What is told of failures and what recovery does about them, through the command line, on the embedded scheduler."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from experiment import WRITE, make_repo, submit, watch, write

pytestmark = [pytest.mark.usefixtures("clusters_file"), pytest.mark.parametrize("site", ["local"], indirect=True)]
# The first attempt of some tasks ends as programs end that cannot allocate; the others are bugs, or fine.
TWICE = (
    f'[ "$MODE" != bug ] || exit 3; [ "$MODE$HPC_ATTEMPT" != memory1 ] || {{ echo "std::bad_alloc"; exit 1; }}; {WRITE}'
)


def failing_run(run_cli, tmp_path, modes=("fine", "memory", "memory", "bug"), executor=TWICE, *flags):
    repo = make_repo(tmp_path / "repo", [{"x": x, "mode": mode} for x, mode in enumerate(modes)])
    return repo, submit(run_cli, repo, executor, *flags)


def events(world_home, run_id):
    (path,) = (world_home.path / ".claude" / "hpc").glob(f"*/runs/{run_id}.jsonl")
    return path, [json.loads(line) for line in path.read_text().splitlines()]


def interrupted(world_home, run_id, **facts):
    """Leave the journal as a resubmission leaves it that was killed before its cluster was asked."""
    path, _ = events(world_home, run_id)
    with path.open("a") as journal:
        journal.write(json.dumps({"event": "resubmitting", "at": 1.0, "request_id": "killed-1", **facts}) + "\n")


@pytest.mark.parametrize("policy", [None, {"tasks": [1], "overrides": {"mem_mb": 512}}])
def test_a_plain_watch_leaves_an_interrupted_resubmission_to_its_command(site, run_cli, tmp_path, world_home, policy):
    repo, sent = failing_run(run_cli, tmp_path)
    run_id = sent["run_id"]
    assert watch(run_cli, repo)["last_status"]["failed"] == 3
    interrupted(world_home, run_id, **({"policy": policy} if policy else {}))
    plain = watch(run_cli, repo)
    assert (plain["resubmitted"], plain["last_status"]["failed"]) == (0, 3)
    flags = " --task-id 1 --mem-mb 512" if policy else ""
    assert plain["next_step"] == f"hpc-agent resubmit --run-id {run_id}{flags}"
    ended = run_cli("monitor-flow", "--auto-resubmit", "--poll-interval-sec", "0.5", cwd=repo).data
    assert ended["last_status"] == {**ended["last_status"], "complete": 3, "failed": 1}
    first = ended["resubmissions"][0]
    assert (first["tasks"], first["resources"]["mem_mb"] == 512) == (("1", True) if policy else ("1-2", False))


def test_a_dry_run_submits_nothing_beside_an_open_resubmission(site, run_cli, tmp_path, world_home):
    repo, sent = failing_run(run_cli, tmp_path)
    watch(run_cli, repo)
    interrupted(world_home, sent["run_id"], policy={"tasks": [1]})
    planned = run_cli("resubmit", "--dry-run", cwd=repo).data
    assert (planned["groups"][0]["tasks"], planned["resubmitted"]) == ("1-2", 0)
    assert run_cli("status", cwd=repo).data["resubmitted"] == 0
    done = run_cli("resubmit", "--task-id", "2", cwd=repo).data
    assert (done["groups"][0]["tasks"], done["deduped"], done["request_id"]) == ("2", False, "killed-1")
    _, journal = events(world_home, sent["run_id"])
    assert journal[-2]["policy"]["tasks"] == [2], "the policy that replaced the interrupted one"


def test_a_watch_tells_what_is_blocked_and_what_can_be_mended(site, run_cli, tmp_path, world_home):
    repo, sent = failing_run(run_cli, tmp_path)
    plain = watch(run_cli, repo)
    assert [(row["class"], row["tasks"]) for row in plain["blocked"]] == [("code_error", "3")]
    command = f"hpc-agent monitor-flow --run-id {sent['run_id']} --auto-resubmit"
    assert plain["next_step"] == command
    mending = run_cli(*command.split()[1:], "--poll-interval-sec", "0.5", cwd=repo, env={"HPC_PROGRESS": "json"})
    told = [json.loads(line) for line in mending.stderr.splitlines()]
    assert [(e["tasks"], e["classes"]) for e in told if e["event"] == "resubmitted"] == [("1-2", {"out_of_memory": 2})]
    ended = mending.data
    assert ([row["class"] for row in ended["blocked"]], ended["resubmitted"]) == (["code_error"], 2)
    assert ended["next_step"] == f"hpc-agent failures --run-id {sent['run_id']}"
    refused = run_cli("resubmit", cwd=repo)
    assert refused.envelope["error_code"] == "needs_resolution"
    run = run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"][0]
    assert (run["resubmits"], run.get("open_resubmit")) == (1, None), "a call that submitted nothing is no resubmission"


def test_a_canary_whose_cause_was_mended_outside_runs_again_as_told(site, run_cli, tmp_path):
    present = tmp_path / "present"
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    words = ["submit-and-verify", "--cluster", "testbed", "--executor", f"cat {present} || exit 1; {WRITE}"]
    broken = run_cli(*words, cwd=repo).envelope
    assert broken["error_code"] == "canary_failed"
    stuck = watch(run_cli, repo, budget=30)
    assert (stuck["lifecycle_state"], stuck["ticks"]) == ("stuck", 1)
    assert stuck["next_step"].startswith("hpc-agent verify-canary --run-id ")
    present.touch()
    again, _, verify = broken["remediation"].rpartition("run the canary again: ")[2].partition(" && ")
    mended = run_cli(*again.split()[1:], cwd=repo).data
    assert mended["next_step"] == verify
    assert run_cli(*verify.split()[1:], cwd=repo).data["released"] == 1
    assert watch(run_cli, repo)["last_status"]["complete"] == 3


HUNGRY = "import os, time\nblock = b'x' * (int(os.environ['MIB']) << 20)\ntime.sleep(float(os.environ['SEC']))\n"
MEASURED = f'python3 -c "$PROGRAM" || exit; {WRITE}'


def hungry_run(run_cli, tmp_path, tasks, *flags):
    listed = [{"x": x, "mib": mib, "sec": sec, "program": HUNGRY} for x, (mib, sec) in enumerate(tasks)]
    repo = make_repo(tmp_path / "repo", listed)
    return repo, submit(run_cli, repo, MEASURED, *flags)


def test_a_cause_has_one_name_and_the_attempts_are_told(site, run_cli, tmp_path):
    repo, _ = hungry_run(run_cli, tmp_path, [(1, 0), (300, 5), (1, 30)], "--mem-mb", "150", "--walltime-sec", "4")
    ended = watch(run_cli, repo)
    causes = {"out_of_memory": 1, "walltime": 1}
    assert ended["failures_by_cause"] == causes
    assert run_cli("status", cwd=repo).data["failures_by_cause"] == causes
    assert run_cli("failures", "--full", cwd=repo).data["classes"] == causes
    logs = run_cli("logs", "--full", "--all-failed", cwd=repo).data
    named = {log["task"]: (log["state"], log["cause"]) for log in logs["logs"]}
    assert (logs["failed"], named) == (2, {1: ("failed", "out_of_memory"), 2: ("failed", "walltime")})
    assert all("attempts" not in log for log in logs["logs"]), "one attempt has no history"
    again = run_cli("resubmit", "--task-id", "1,2", "--mem-mb", "200", "--walltime-sec", "3", cwd=repo).data
    assert again["resubmitted"] == 2
    assert watch(run_cli, repo)["failures_by_cause"] == causes
    expected = {
        cause: [(1, cause, {"walltime_sec": 4, "mem_mb": 150}), (2, cause, {"walltime_sec": 3, "mem_mb": 200})]
        for cause in causes
    }
    for cluster in run_cli("failures", "--full", cwd=repo).data["clusters"]:
        attempts = cluster["sample"]["attempts"]
        told = [
            (one["attempt"], one["cause"], {k: one["asked"][k] for k in ("walltime_sec", "mem_mb")}) for one in attempts
        ]
        assert told == expected[cluster["class"]]
        assert all(one["host"] for one in attempts)
    log = run_cli("logs", "--task-id", "1", cwd=repo).data["logs"][0]
    assert [one["cause"] for one in log["attempts"]] == ["out_of_memory"] * 2


def test_the_next_plan_knows_what_failed_and_repaired_tasks_needed(site, run_cli, tmp_path):
    repo, _ = hungry_run(run_cli, tmp_path, [(1, 0), (1, 0), (300, 5)], "--mem-mb", "150")
    watch(run_cli, repo)
    words = ["submit", "--dry-run", "--cluster", "testbed", "--executor", MEASURED]

    def memory():
        plan = run_cli(*words, cwd=repo, timeout=60).data["plan"]
        return plan["resources"]["mem_mb"], plan["origin"]["mem_mb"]

    write(repo / "NOTES.md", "other code, and so another run\n")
    (samples,) = (repo / ".hpc" / "runtimes").glob("*.json")
    asked, origin = memory()
    assert asked >= 300
    assert "at least" in origin and "where 1 task failed" in origin and "at most" not in origin, origin
    assert run_cli("resubmit", "--mem-mb", "600", cwd=repo).data["resubmitted"] == 1
    assert watch(run_cli, repo)["last_status"]["complete"] == 3
    rows = json.loads(samples.read_text())["runs"][0]["rows"]
    assert {row["task"]: row["max_rss_mb"] > 250 for row in rows} == {0: False, 1: False, 2: True}
    before = samples.read_bytes()
    assert run_cli("status", cwd=repo).data["lifecycle_state"] == "complete"
    assert samples.read_bytes() == before, "an ended run is measured once"


def test_the_latest_of_adopted_runs_is_the_one_submitted_last(site, run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", [{"x": 0}])
    sent = [submit(run_cli, repo, f"{WRITE} # {number}")["run_id"] for number in range(2)]
    for folder in (repo / ".hpc" / "runs", world_home.path / ".claude"):
        shutil.rmtree(folder)
    runs = site.scratch / "hpc-agent"
    for run_id, day in zip(sent, ("02", "01"), strict=True):  # the first was the later one
        (document,) = runs.glob(f"*/runs/{run_id}/run.json")
        facts = json.loads(document.read_text())
        document.write_text(json.dumps({**facts, "submitted_at": f"2026-01-{day}T00:00:00Z"}))
    assert len(run_cli("reconcile", "--remote", "--cluster", "testbed", cwd=repo).data["adopted"]) == 2
    assert run_cli("status", cwd=repo).data["run_id"] == sent[0]


def test_an_aggregate_in_flight_tells_failed_tasks_from_those_that_have_not_ended(site, run_cli, tmp_path):
    repo, _ = hungry_run(run_cli, tmp_path, [(1, 0), (300, 5), (1, 15)], "--mem-mb", "150", "--max-running", "3")
    deadline = time.monotonic() + 40
    while run_cli("status", cwd=repo).data["last_status"]["failed"] != 1:
        assert time.monotonic() < deadline
    table = run_cli("aggregate", cwd=repo).data
    assert (table["included_tasks"], table["failed_tasks"], table["missing_tasks"]) == (1, "1", "2")
    watch(run_cli, repo)
    assert submit(run_cli, repo, MEASURED, "--mem-mb", "150", "--max-running", "3")["next_step"].startswith(
        "hpc-agent failures"
    )


def test_where_all_failed_an_aggregate_points_to_the_failures(site, run_cli, tmp_path):
    repo, sent = failing_run(run_cli, tmp_path, ["bug", "bug"])
    watch(run_cli, repo)
    refused = run_cli("aggregate", cwd=repo).envelope
    assert "all 2 tasks" in refused["message"]
    assert f"hpc-agent failures --run-id {sent['run_id']}" in refused["remediation"]


def test_the_remedy_for_a_missing_package_runs_the_tasks_once_it_is_there(site, run_cli, tmp_path):
    package = tmp_path / "lib" / "latecomer.py"
    program = f"import sys\nsys.path.insert(0, {str(package.parent)!r})\nimport latecomer\n"
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}], **{"run.py": program})
    sent = submit(run_cli, repo, "python3 run.py")
    [blocked] = watch(run_cli, repo)["blocked"]
    [cluster] = run_cli("failures", sent["run_id"], cwd=repo).data["clusters"]
    assert blocked["remedy"] == cluster["remedy"]
    assert "run with python3, which has no module latecomer" in blocked["remedy"]
    write(package, "")
    command = blocked["remedy"].rpartition(": hpc-agent ")[2]
    assert run_cli(*command.split(), cwd=repo).data["groups"][0]["tasks"] == "0-1"
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_the_templates_of_a_run_are_found_again(run_cli, tmp_path, kind):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = submit(run_cli, repo, "test -e ok", "--mem-mb", "50", "--walltime-sec", "60")
    assert watch(run_cli, repo)["lifecycle_state"] == "failed"
    work = Path(sent["remote_path"]) / "work"
    templates = work / ".hpc" / "templates"
    assert (templates.readlink().is_absolute(), templates.is_dir()) == (False, True)
    if kind == "folder":  # as earlier versions made it
        copy = templates.with_name("copy")
        shutil.copytree(templates, copy)
        templates.unlink()
        copy.rename(templates)
    (work / "ok").touch()
    assert run_cli("resubmit", "--classes", "code_error", cwd=repo).data["resubmitted"] == 1
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"


def test_a_refused_resubmission_names_the_command_that_is_heeded(site, run_cli, tmp_path):
    repo, sent = failing_run(run_cli, tmp_path, ["bug"] * 4)
    watch(run_cli, repo)
    run_id = sent["run_id"]
    command = f"hpc-agent resubmit --run-id {run_id} --classes code_error --force"
    for words in ((), ("--classes", "code_error")):
        refused = run_cli("resubmit", *words, cwd=repo).envelope
        assert refused["error_code"] == "needs_resolution"
        assert f"'{command}'" in refused["remediation"]
        assert "Correct the code" in refused["remediation"]
    named = run_cli("resubmit", "--task-id", "1,2,3,0", "--mem-mb", "64", cwd=repo).envelope["remediation"]
    assert f"'hpc-agent resubmit --run-id {run_id} --task-id 1,2,3,0 --mem-mb 64 --force'" in named
    assert run_cli(*command.split()[1:], cwd=repo).data["resubmitted"] == 4


def test_a_task_that_there_is_not_is_refused_with_those_that_there_are(site, run_cli, tmp_path):
    repo, sent = failing_run(run_cli, tmp_path, ["bug", "fine"])
    watch(run_cli, repo)
    for words in (("logs", "--task-id", "999"), ("resubmit", "--task-id", "0,999")):
        refused = run_cli(*words, cwd=repo).envelope
        assert (refused["error_code"], refused["field"]) == ("spec_invalid", "task_id")
        assert "there is no task 999" in refused["message"]
        assert "tasks 0 to 1" in refused["remediation"]
        assert f"'hpc-agent failures --run-id {sent['run_id']}'" in refused["remediation"]
    assert "'hpc-agent describe logs'" in run_cli("logs", "--task-id", "x", cwd=repo).envelope["remediation"]


def test_the_remedy_of_a_killed_task_names_its_log(site, run_cli, tmp_path):
    repo, sent = failing_run(run_cli, tmp_path, ["fine", "kill"], f'[ "$MODE" != kill ] || kill -SEGV $$; {WRITE}')
    (blocked,) = watch(run_cli, repo)["blocked"]
    command = f"hpc-agent logs --run-id {sent['run_id']} --task-id 1"
    assert blocked["remedy"].endswith(command)
    assert run_cli("failures", cwd=repo).data["clusters"][0]["remedy"].endswith(command)
    assert run_cli(*command.split()[1:], cwd=repo).data["logs"][0]["cause"] == "signal"
