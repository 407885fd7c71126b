"""A submission that is killed right after the scheduler accepted an array: looked up by name, and never in two shapes."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from experiment import aggregate, make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
LIMITS = {"max_array_size": 2, "max_concurrent_jobs": 10, "est_spin_up": "5s"}
TOOLS = {"slurm": ("sbatch", "squeue"), "sge": ("qsub", "qstat"), "oar": ("oarsub", "oarstat")}
# The tool does its work, and its caller dies before it can read the job's id: once.
KILLER = """#!/bin/bash
mkdir {marker} 2>/dev/null || exec {real} "$@"
{real} "$@" >/dev/null 2>&1
kill -9 $PPID
"""
BROKEN = "#!/bin/bash\necho 'error: something is wrong in there' >&2\nexit 1\n"


def first_on_path(site, name, tool, text):
    """Put a program in the place of a scheduler's tool. Return the shell file that does so, for ``shell_init``."""
    folder = site.scratch / name
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / tool).write_text(text)
    (folder / tool).chmod(0o755)
    init = folder / "init.sh"
    init.write_text(f"export PATH={folder}:$PATH HPC_SETTLE_SEC=2\n")
    return str(init)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "oar-ssh"], indirect=True)
def test_a_killed_submission_is_found_by_its_job_names(site, run_cli, tmp_path, clusters_file):
    tool, queue = TOOLS[site.scheduler]
    killer = KILLER.format(marker=site.scratch / "killed", real=shutil.which(tool))
    site.scratch.chmod(0o777)
    clusters_file.write_text(
        site.clusters_yaml(constraints=LIMITS, shell_init=first_on_path(site, "killer", tool, killer))
    )
    witness = site.scratch / "ran"
    witness.touch()
    witness.chmod(0o666)
    work = f'echo $X >> {witness}; echo "{{\\"y\\": $X}}" > "$HPC_RESULT_DIR/metrics.json"'
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)], work_sh=work)
    died = run_cli("submit", "--cluster", "testbed", "--executor", "bash work_sh", "--mem-mb", "40", cwd=repo)
    assert died.code == 2, died.envelope

    hint = run_cli("load-context", cwd=repo).data
    assert hint["next_command"] == "hpc-agent submit --cluster testbed --executor 'bash work_sh' --mem-mb 40"
    clusters_file.write_text(
        site.clusters_yaml(constraints=LIMITS, shell_init=first_on_path(site, "deaf", queue, BROKEN))
    )
    nobody = run_cli("status", cwd=repo)
    assert (nobody.code, nobody.envelope["error_code"]) == (2, "submission_unknown"), nobody.envelope
    assert "something is wrong" in nobody.envelope["message"]

    clusters_file.write_text(site.clusters_yaml(constraints=LIMITS))
    seen = run_cli("status", cwd=repo).data
    assert (len(seen["job_ids"]), seen["to_submit"]) == (1, 1), seen
    again = submit(run_cli, repo, "bash work_sh", "--mem-mb", "50", "--pack", "2")
    assert (again["job_ids"][0], len(again["job_ids"])) == (seen["job_ids"][0], 2)
    plan = again["plan"]
    assert (plan["pack"], plan["arrays"], plan["resources"]["mem_mb"]) == (1, 2, 40), "what the first job has"
    assert [(group["arrays"], group["resources"]["mem_mb"]) for group in plan["by_array"]] == [
        (["a0"], 40),
        (["a1"], 50),
    ]
    assert any("mem_mb 40, not 50" in note for note in again["notes"]), again["notes"]
    assert any("stay as they were planned" in note for note in again["notes"]), again["notes"]

    assert watch(run_cli, repo)["lifecycle_state"] == "complete"
    assert Counter(witness.read_text().split()) == Counter("0123")
    table = aggregate(run_cli, repo)
    assert [row["metrics"]["y"]["count"] for row in table["rows"]] == [1, 1, 1, 1]
    ended = submit(run_cli, repo, "bash work_sh", "--mem-mb", "60")
    assert (ended["deduped"], ended["plan"], ended["next_step"]) == (
        True,
        plan,
        f"hpc-agent aggregate --run-id {again['run_id']}",
    )


def killed_after_the_first_array(site, run_cli, tmp_path, clusters_file, *words):
    tool, _ = TOOLS[site.scheduler]
    killer = KILLER.format(marker=site.scratch / "killed", real=shutil.which(tool))
    site.scratch.chmod(0o777)
    init = first_on_path(site, "killer", tool, killer)
    clusters_file.write_text(site.clusters_yaml(constraints=LIMITS, shell_init=init))
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    assert run_cli("submit", "--cluster", "testbed", *words, cwd=repo).code == 2
    return repo


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "oar-ssh"], indirect=True)
def test_the_printed_command_goes_on(site, run_cli, tmp_path, clusters_file):
    """Killed, and nothing else asked in between: the command of load-context adopts the job and submits the rest."""
    words = ["--executor", 'echo "it\'s $X"', "--walltime-sec", "120"]
    repo = killed_after_the_first_array(site, run_cli, tmp_path, clusters_file, *words)
    command = shlex.split(run_cli("load-context", cwd=repo).data["next_command"])
    went_on = run_cli(*command[1:], cwd=repo).data
    assert len(went_on["job_ids"]) == 2
    assert any(f"array a0 was in the queue as job {went_on['job_ids'][0]}" in note for note in went_on["notes"])
    assert watch(run_cli, repo)["last_status"]["complete"] == 4


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_monitor_flow_goes_on_without_the_command(site, run_cli, tmp_path, clusters_file):
    repo = killed_after_the_first_array(site, run_cli, tmp_path, clusters_file, "--executor", "true")
    changed = run_cli("reconcile", cwd=repo).data["changed"]
    assert any(line.startswith("job ids: [] -> ['") for line in changed), changed
    ended = watch(run_cli, repo)
    assert (ended["lifecycle_state"], ended["last_status"]["complete"]) == ("complete", 4)
    again = run_cli("submit", "--cluster", "testbed", "--executor", "true", cwd=repo).data
    assert (again["deduped"], len(again["job_ids"])) == (True, 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh", "sge-ssh", "oar-ssh"], indirect=True)
def test_the_job_of_a_reducer_is_submitted_once_and_waits_for_the_run(site, run_cli, tmp_path, clusters_file):
    tool, _ = TOOLS[site.scheduler]
    killer = KILLER.format(marker=site.scratch / "killed", real=shutil.which(tool))
    site.scratch.chmod(0o777)
    witness, go = site.scratch / "ran", site.scratch / "go"
    witness.touch()
    witness.chmod(0o666)
    reducer = f'echo ran >> {witness}; seq 3 > rows.txt; wc -l < "$HPC_TASKS"'
    reducer += '; printf \'{"tasks": %d}\' $(wc -l < "$HPC_TASKS") > "$HPC_AGGREGATED_OUTPUT"; echo $MODE $NSLOTS'
    work = f'while [ ! -e {go} ]; do sleep 0.2; done; echo "{{\\"y\\": $X}}" > "$HPC_RESULT_DIR/metrics.json"'
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(2)])
    submit(run_cli, repo, work, "--mem-mb", "40", "--env", '{"MODE": "fast"}')
    words = ("cluster-reduce", "--as-job", "--aggregate-cmd", reducer, "--files", "rows.txt", "--walltime-sec", "60")
    clusters_file.write_text(site.clusters_yaml(shell_init=first_on_path(site, "killer", tool, killer)))
    assert run_cli(*words, cwd=repo).code == 2
    clusters_file.write_text(site.clusters_yaml())
    sent = run_cli(*words, cwd=repo).data
    assert (sent["state"], sent["ok"], bool(sent["job_id"])) == ("queued", False, True), sent
    go.touch()
    assert watch(run_cli, repo)["last_status"]["complete"] == 2
    deadline = time.monotonic() + 120
    while (ended := run_cli(*words, cwd=repo).data)["state"] != "ended":
        assert time.monotonic() < deadline, ended
    assert (ended["reduced"], ended["job_id"], ended["included_tasks"]) == ({"tasks": 2}, sent["job_id"], 2)
    assert ended["stderr_tail"].splitlines()[1].startswith("fast")
    assert (Path(ended["output_path_local"]).parent / "files" / "rows.txt").read_text() == "1\n2\n3\n"
    assert witness.read_text() == "ran\n"
    here = run_cli("cluster-reduce", "--aggregate-cmd", "echo here >&2; exit 5", cwd=repo).envelope
    assert (here["details"]["exit_code"], here["details"]["stderr_tail"]) == (5, "here")
