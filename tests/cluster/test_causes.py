"""Real programs that cannot get memory, or speak German: what is told of them, and what recovery asks for next."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from experiment import make_repo, submit, watch

pytestmark = pytest.mark.usefixtures("clusters_file")
HOG = """
import java.util.ArrayList;
import java.util.List;

public class Hog {
    public static void main(String[] words) {
        List<byte[]> kept = new ArrayList<>();
        while (true) {
            kept.add(new byte[1 << 20]);
        }
    }
}
"""


@pytest.mark.skipif(not (shutil.which("java") and shutil.which("Rscript")), reason="needs java and Rscript")
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_whose_memory(site, run_cli, tmp_path):
    """A heap that cannot be reserved and a vector of R need more memory for the job; a full -Xmx does not."""
    commands = [
        "ulimit -v 3000000; java -Xmx6g -version",
        "java -Xmx32m Hog.java",
        "ulimit -v 600000; Rscript -e 'x <- numeric(5e8)'",
    ]
    repo = make_repo(tmp_path / "repo", [{"command": command} for command in commands], **{"Hog.java": HOG})
    submit(run_cli, repo, 'eval "$COMMAND"', "--mem-mb", "1500")
    watch(run_cli, repo)
    found = {cluster["tasks"]: cluster for cluster in run_cli("failures", "--full", cwd=repo).data["clusters"]}
    assert {tasks: cluster["class"] for tasks, cluster in found.items()} == {
        "0": "out_of_memory", "1": "heap_full", "2": "out_of_memory"
    }  # fmt: skip
    plan = run_cli("resubmit", "--dry-run", cwd=repo).data
    assert [(group["tasks"], group["resources"]["mem_mb"]) for group in plan["groups"]] == [("0,2", 3008)]
    assert [(refusal["class"], refusal["tasks"]) for refusal in plan["blocked"]] == [("heap_full", "1")]


@pytest.mark.parametrize("site", ["sge-ssh"], indirect=True)
def test_an_allocation_that_h_data_refuses(site, run_cli, tmp_path):
    """Grid Engine kills nothing: the program has a MemoryError and exit code 1."""
    repo = make_repo(tmp_path / "repo", [{"x": 0}])
    submit(run_cli, repo, "python3 -c 'bytearray(3 << 30)'", "--mem-mb", "1000")
    watch(run_cli, repo)
    (found,) = run_cli("failures", "--full", cwd=repo).data["clusters"]
    assert (found["class"], found["sample"]["exit_code"], found["action"]) == ("out_of_memory", 1, "more_memory")
    assert "h_data" in found["evidence"][-1]["text"]
    (group,) = run_cli("resubmit", "--dry-run", cwd=repo).data["groups"]
    assert group["resources"]["mem_mb"] == 2048


@pytest.mark.skipif(not shutil.which("localedef"), reason="needs localedef")
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_messages_are_english_in_a_job_whose_locale_is_german(site, run_cli, tmp_path):
    """The locale itself stays: numbers and times are written as the user's locale has them."""
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=False)
    if made.returncode > 1:
        pytest.skip("no German locale can be made here")
    repo = make_repo(tmp_path / "repo", [{"x": 0}])
    executor = f"export LOCPATH={tmp_path} LC_ALL=de_DE.UTF-8; date -d 2026-03-01 +%B; cat /no/such/file"
    submit(run_cli, repo, executor)
    watch(run_cli, repo)
    (found,) = run_cli("failures", "--full", cwd=repo).data["clusters"]
    assert (found["class"], found["sample"]["line"]) == (
        "missing_file",
        "cat: /no/such/file: No such file or directory",
    )
    assert "März" in found["sample"]["log_tail"]
