"""Bad input: one envelope, the right exit code, a remedy that names a command; nothing lost, nothing submitted twice."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from experiment import WRITE, listed, make_repo, submit, watch, write

pytestmark = [
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["local"], indirect=True),
]

HEAD = "def total():\n    return 2\n\n"
BAD_TASKS = {
    "raises on import": ("raise ValueError('no data')", "ValueError: no data"),
    "exits on import": ("import sys; sys.exit(3)", "SystemExit"),
    "kills itself": ("import os; os._exit(7)", "exit code 7"),
    "syntax error": ("def total(:", "SyntaxError"),
    "no total": ("def resolve(i): return {}", "no function total"),
    "no resolve": (HEAD, "no function resolve"),
    "total of the wrong type": ("def total(): return 2.0\ndef resolve(i): return {}", "must return an int, not float"),
    "total zero": ("def total(): return 0\ndef resolve(i): return {}", "nothing to run"),
    "total negative": ("def total(): return -4\ndef resolve(i): return {}", "nothing to run"),
    "ten million": ("def total(): return 10**7\ndef resolve(i): return {}", "10,000,000"),
    "resolve raises": (HEAD + "def resolve(i): return {'x': 1 / (1 - i)}", "resolve(1) raised ZeroDivisionError"),
    "resolve of the wrong type": (HEAD + "def resolve(i): return [i]", "resolve(0) must return a dict, not list"),
    "bad name": (HEAD + "def resolve(i): return {'learning-rate': i}", "'learning-rate' is not a valid variable name"),
    "name of the wrong type": (HEAD + "def resolve(i): return {1: i}", "not a valid variable name"),
    "twin names": (HEAD + "def resolve(i): return {'lr': i, 'LR': i}", "same variable"),
    "NUL": (HEAD + "def resolve(i): return {'x': 'a\\0b'}", "NUL"),
    "NaN": (HEAD + "def resolve(i): return {'x': float('nan')}", "JSON cannot hold"),
    "an object": (HEAD + "def resolve(i): return {'x': object()}", "JSON cannot hold"),
    "a set in a list": (
        HEAD + "def resolve(i): return {'x': 1, 'y': [{i}]}",
        "value of 'y' is one that JSON cannot hold",
    ),
    "an odd exception": (
        HEAD + "class E(Exception):\n    def __str__(self): return 1\ndef resolve(i): raise E",
        "resolve(0) raised E",
    ),
    "a megabyte": (HEAD + "def resolve(i): return {'x': 'a' * 10**6}", "put it into a file"),
    "two halves": (HEAD + "def resolve(i): return {'x': 'a' * 10**5, 'y': 'b' * 10**5}", "all values together"),
    "half a pair": (HEAD + "def resolve(i): return {'x': '\\ud800'}", "surrogate"),
    "chance": (HEAD + "import random\ndef resolve(i): return {'x': random.random()}", "other parameters each time"),
    "order of a set": (
        HEAD + "def resolve(i): return {'x': list({'a', 'b', 'c', 'd'})[0:4]}",
        "other parameters each time",
    ),
}


def refused(outcome, code: int, error_code: str) -> dict:
    envelope = outcome.envelope
    assert (outcome.code, envelope["ok"], envelope["error_code"]) == (code, False, error_code), envelope
    assert "hpc-agent" in envelope["remediation"] or "chmod" in envelope["remediation"], envelope
    assert "Traceback" not in envelope["message"]
    return envelope


@pytest.mark.parametrize("case", BAD_TASKS)
def test_bad_tasks_py(site, run_cli, tmp_path, case):
    source, said = BAD_TASKS[case]
    repo = make_repo(tmp_path / "repo", source)
    envelope = refused(run_cli("submit", "--cluster", "testbed", "--executor", WRITE, cwd=repo), 1, "spec_invalid")
    assert said in envelope["message"]
    assert envelope["field"] == "tasks.py"
    assert not (repo / ".hpc" / "runs").exists()
    assert not any(site.scratch.glob("hpc-agent/*/runs/*")), "nothing reached the cluster"


@pytest.mark.parametrize("source", ["while True: pass", HEAD + "import time\ndef resolve(i): time.sleep(600)"])
def test_tasks_py_that_never_returns(site, run_cli, tmp_path, source):
    repo = make_repo(tmp_path / "repo", source)
    outcome = run_cli(
        "submit", "--cluster", "testbed", "--executor", WRITE, "--resolve-timeout-sec", "2", cwd=repo, timeout=30
    )
    assert "more than 2 s" in refused(outcome, 1, "spec_invalid")["message"]


def test_prints_of_tasks_py_do_not_reach_stdout(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", "print('loading', flush=True)\n" + listed([{"x": 1}]))
    assert submit(run_cli, repo, WRITE)["submitted"]


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ("python3 executors/nothing.py", "executors/nothing.py"),
        ("executors/nothing.sh --x", "executors/nothing.sh"),
        ('python3 executors/"$NAME".py', "executors/b.py"),
        ("executors/plain.sh", "may not be executed"),
    ],
)
def test_executor_that_is_not_there(site, run_cli, tmp_path, executor, said):
    repo = make_repo(tmp_path / "repo", [{"name": "a"}, {"name": "b"}], executors__a="", executors__plain="")
    write(repo / "executors" / "a.py", "")
    write(repo / "executors" / "plain.sh", "true")
    outcome = run_cli("submit", "--cluster", "testbed", "--executor", executor, cwd=repo)
    assert said in refused(outcome, 1, "executor_not_found")["message"]


def test_a_file_that_changes_while_it_is_pushed(site, run_cli, tmp_path, clusters_file):
    """A log is taken as it was; what was written anew is refused, and leaves no run. ``shell_init`` runs before the push."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], log="1\n", data="1\n", large="x" * (2 << 20))
    write(tmp_path / "init.sh", f"date > {repo}/data")
    clusters_file.write_text(site.clusters_yaml(shell_init=str(tmp_path / "init.sh")))
    arguments = [
        "submit",
        "--cluster",
        "testbed",
        "--campaign-id",
        "c",
        "--executor",
        "cp log $HPC_RESULT_DIR; " + WRITE,
    ]
    assert "data changed" in refused(run_cli(*arguments, cwd=repo), 1, "precondition_failed")["message"]
    seen = run_cli("load-context", cwd=repo).data
    assert (seen["in_flight"], seen["campaigns"], list((repo / ".hpc" / "runs").iterdir())) == ([], {}, [])
    assert seen["next_command"].startswith("hpc-agent submit --cluster testbed")
    write(tmp_path / "init.sh", f"echo more >> {repo}/log")
    sent = run_cli(*arguments, cwd=repo).data
    told = "it is in the run as it was before; list a log in .hpcignore"
    assert sent["notes"] == [f"log grew while it was pushed: {told}"]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert (Path(sent["remote_path"]) / "results" / "0" / "log").read_text() == "1\n"


def test_a_gigabyte_on_stdout(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    sent = submit(
        run_cli, repo, 'echo first; head -c 1000000000 /dev/zero | tr "\\0" x | fold -w 100; echo; echo last; ' + WRITE
    )
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    logs = list((Path(sent["remote_path"]) / "logs" / "00000").iterdir())
    assert sum(path.stat().st_size for path in logs) < 60 << 20
    assert run_cli("logs", "--task-id", "0", "--lines", "1", cwd=repo).data["logs"][0]["content"] == "last"


@pytest.mark.parametrize(
    ("arguments", "error_code", "hint"),
    [
        (["status", "--run-id", "nosuch"], "run_not_found", "list-in-flight"),
        (["status", "--run-id", "../../etc"], "spec_invalid", "describe"),
        (["status"], "precondition_failed", "submit"),
        (["submit", "--cluster", "nosuch", "--executor", "true"], "cluster_unknown", "clusters-list"),
        (["submit", "--cluster", "testbed"], "spec_invalid", "--executor"),
        (["submit", "--cluster", "testbed", "--executor", " "], "spec_invalid", "hpc-agent"),
        (["submit", "--cluster", "testbed", "--executor", "true", "--mem-mb", "lots"], "spec_invalid", "hpc-agent"),
        (
            ["submit", "--cluster", "testbed", "--executor", "true", "--walltime-sec", "99999999"],
            "spec_invalid",
            "--walltime-sec",
        ),
        (["submit", "--cluster", "testbed", "--executor", "true", "--run-name", "../x"], "spec_invalid", "hpc-agent"),
        (
            ["submit", "--cluster", "testbed", "--executor", "true", "--result-dir-template", "../{x}"],
            "spec_invalid",
            "task_id",
        ),
        (
            ["submit", "--cluster", "testbed", "--executor", "true", "--result-dir-template", "same"],
            "spec_invalid",
            "{task_id}",
        ),
        (
            ["submit", "--cluster", "testbed", "--executor", "true", "--env", '{"MY_API_KEY": "s3cret"}'],
            "spec_invalid",
            "file",
        ),
        (["submit", "--spec", "nosuch.json"], "spec_invalid", "hpc-agent"),
        (["sbumit"], "spec_invalid", "hpc-agent submit"),
        (["submit", "--exectuor", "true"], "spec_invalid", "--help"),
        (["logs"], "spec_invalid", "describe"),
    ],
)
def test_bad_arguments(site, run_cli, tmp_path, arguments, error_code, hint):
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])
    outcome = run_cli(*arguments, cwd=repo)
    assert (outcome.code, outcome.envelope["error_code"]) == (1, error_code), outcome.envelope
    assert hint in outcome.envelope["remediation"] + outcome.envelope["message"]
    assert "s3cret" not in str(outcome.envelope)


def test_spec_on_stdin_and_an_unknown_field_in_it(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    spec = '{"cluster": "testbed", "executor": "true", "resources": {"mem_mbb": 5}}'
    envelope = refused(run_cli("submit", "--spec", "-", cwd=repo, stdin=spec), 1, "spec_invalid")
    assert envelope["field"] == "resources.mem_mbb"
    assert "mem_mb" in envelope["remediation"]
    assert run_cli("submit", "--spec", "-", cwd=repo, stdin=spec.replace("mbb", "mb")).data["submitted"]


def test_a_corrupt_journal(site, run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    first = submit(run_cli, repo, WRITE)
    watch(run_cli, repo)
    [journal] = (world_home.path / ".claude").rglob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b'"event"', b'"ev\xffent', 1))
    envelope = refused(run_cli("status", "--run-id", first["run_id"], cwd=repo), 3, "journal_corrupt")
    assert str(journal) in envelope["remediation"]
    assert run_cli("list-in-flight", cwd=repo).envelope["partial_errors"][0]["code"] == "journal_corrupt"
    journal.rename(journal.with_suffix(".broken"))
    again = submit(run_cli, repo, WRITE)
    assert (again["run_id"], again["job_ids"]) == (first["run_id"], first["job_ids"])

    journal.write_bytes(whole + b'{"event": "sta')
    assert run_cli("status", "--run-id", first["run_id"], cwd=repo).data["lifecycle_state"] == "complete"


def test_a_corrupt_sidecar(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    first = submit(run_cli, repo, WRITE)
    sidecar = repo / ".hpc" / "runs" / f"{first['run_id']}.json"
    sidecar.write_text(sidecar.read_text()[:40])
    found = run_cli("find-prior-run", "--cmd-sha", first["cmd_sha"], cwd=repo)
    assert str(sidecar) in found.envelope["partial_errors"][0]["detail"]
    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert submit(run_cli, repo, WRITE)["deduped"]


def test_a_link_that_leads_out_of_the_repo(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    (repo / "data").symlink_to(tmp_path)
    outcome = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, cwd=repo)
    assert "data" in refused(outcome, 1, "spec_invalid")["remediation"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("size", ["64k", "1m", "10m"])
def test_a_full_scratch_disk(site, run_cli, tmp_path, size):
    """The push is refused before it starts, or fails part-way; when there is room again the same command goes through."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], big="x" * (11 << 20))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(site.scratch)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mount is not allowed here")
    try:
        outcome = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, cwd=repo)
        refused(outcome, 2, "storage_full")
        subprocess.run(["mount", "-o", "remount,size=100m", str(site.scratch)], check=True)
        assert submit(run_cli, repo, WRITE)["submitted"]
        assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    finally:
        subprocess.run(["umount", "-l", str(site.scratch)], check=False)


def test_an_input_in_an_output_folder_is_named(site, run_cli, tmp_path):
    repo = make_repo(tmp_path / "repo", [{"data_path": "logs/x.csv", "save_dir": "logs"}], logs__x="")
    (repo / "logs/x").rename(repo / "logs/x.csv")
    envelope = run_cli("submit", "--cluster", "testbed", "--executor", "cat $DATA_PATH", cwd=repo).envelope
    assert "output folder logs" in envelope["message"], envelope
    assert "out of --outputs" in envelope["remediation"]
