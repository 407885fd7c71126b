"""What a site refuses in words of its own, before the scheduler is asked or inside of it: refused, and corrected."""

from __future__ import annotations

import pytest
from experiment import WRITE, make_repo, submit, watch
from test_interrupted import first_on_path

pytestmark = pytest.mark.usefixtures("clusters_file")
HOG = 'python3 -c "import time; block = bytearray(200 << 20); time.sleep(20)"'
# The words of a wrapper that a site puts in the place of qsub.
WRAPPER = """#!/bin/bash
case " $* " in *" -tc "*) echo 'Bitte zuerst ein Projekt beantragen.' >&2; exit 1;; esac
exec /usr/bin/qsub "$@"
"""
# A verifier (JSV) speaks lines: its answer to START is STARTED, to BEGIN a result.
VERIFIER = """#!/bin/bash
while read -r word rest; do
    case $word in
    START) throttled=; echo STARTED ;;
    PARAM) case $rest in "tc "*|"t_max_concurrent "*) throttled=1 ;; esac ;;
    BEGIN) if [ -n "$throttled" ]; then echo 'RESULT STATE REJECT Pas plus de cent, merci'; else echo 'RESULT STATE ACCEPT'; fi ;;
    QUIT) exit 0 ;;
    esac
done
"""


def refused(run_cli, repo, *flags):
    outcome = run_cli("submit", "--cluster", "testbed", "--executor", WRITE, *flags, cwd=repo)
    assert (outcome.code, outcome.envelope["error_code"]) == (2, "scheduler_refused"), outcome.envelope
    assert not outcome.envelope["retry_safe"]
    return outcome.envelope


@pytest.mark.timeout(300)
@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
def test_memory_is_asked_for_per_cpu_also_by_recovery(site, run_cli, tmp_path, clusters_file):
    clusters_file.write_text(site.clusters_yaml(default_partition="percpu"))
    repo = make_repo(tmp_path / "repo", [{"hog": "true"}, {"hog": HOG}])
    words = ("submit", "--cluster", "testbed", "--executor", 'eval "$HOG"', "--mem-mb", "121", "--cpus", "2")
    said = run_cli(*words, cwd=repo).envelope
    assert (said["error_code"], "Use --mem-per-cpu" in said["message"]) == ("scheduler_refused", True), said
    assert "mem_per_cpu: true" in said["remediation"]
    gone = run_cli("status", cwd=repo).envelope
    assert (gone["error_code"], "Use --mem-per-cpu" in gone["message"]) == ("precondition_failed", True), gone

    clusters_file.write_text(site.clusters_yaml(default_partition="percpu", mem_per_cpu=True))
    sent = run_cli(*words, cwd=repo).data
    asked = site.run("squeue", "-h", "-t", "all", "-j", sent["job_ids"][0], "-o", "%m").stdout.split()
    assert set(asked) == {"61M"}, "of two CPUs each"
    assert watch(run_cli, repo)["failures_by_cause"] == {"out_of_memory": 1}
    again = run_cli("resubmit", cwd=repo).data
    asked = site.run("squeue", "-h", "-t", "all", "-j", again["job_ids"][0], "-o", "%m").stdout.split()
    assert asked == [f"{-(-again['groups'][0]['resources']['mem_mb'] // 2)}M"]


@pytest.mark.parametrize("site", ["slurm-ssh"], indirect=True)
@pytest.mark.parametrize(
    ("constraint", "words"), [("refused", "Ce projet n'a plus d'heures"), ("budget", "budget of this month")]
)
def test_a_refusal_in_unknown_words_and_a_corrected_request(site, run_cli, tmp_path, clusters_file, constraint, words):
    """The corrected request has another shape too: nothing was sent, so that it replaces the plan."""
    clusters_file.write_text(site.clusters_yaml(mem_per_cpu=True))
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)])
    flags = ("--partition", "percpu", "--constraint", constraint)
    assert words in refused(run_cli, repo, *flags)["message"]
    corrected = submit(run_cli, repo, WRITE, "--pack", "2")
    assert (corrected["plan"]["pack"], corrected["plan"]["total_elements"]) == (2, 2)
    assert watch(run_cli, repo)["last_status"]["complete"] == 4


@pytest.mark.parametrize("site", ["sge-ssh"], indirect=True)
@pytest.mark.parametrize("filter_", ["wrapper", "verifier"])
def test_a_refusal_of_grid_engine_in_unknown_words(site, run_cli, tmp_path, clusters_file, filter_):
    files = {}
    if filter_ == "wrapper":
        clusters_file.write_text(site.clusters_yaml(shell_init=first_on_path(site, "site", "qsub", WRAPPER)))
    else:
        verifier = site.scratch / "verifier.sh"
        verifier.write_text(VERIFIER)
        verifier.chmod(0o755)
        files[".sge_request"] = f"-jsv {verifier}\n"
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(4)], **files)
    said = refused(run_cli, repo, "--max-running", "1")
    assert {"wrapper": "zuerst ein Projekt", "verifier": "plus de cent"}[filter_] in said["message"]
    assert submit(run_cli, repo, WRITE, "--pack", "2")["plan"]["total_elements"] == 2
    assert watch(run_cli, repo)["last_status"]["complete"] == 4
