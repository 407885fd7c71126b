import os
import subprocess
import sys

import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading.pushed_tree import scan_tree, shared_files


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    root.mkdir()
    return root


def scan(repo, *shared):
    return scan_tree(repo, list(shared), repo.parent / "cache.json")


def test_what_nobody_wants_on_a_cluster_stays_here(repo):
    write(repo, "a.py", ".hpc/tasks.py", "lib/b.py", "lib/results/kept.csv")
    write(
        repo,
        ".git/HEAD",
        ".venv/bin/python",
        "lib/__pycache__/b.pyc",
        "results/r/table.csv",
        ".hpc/runs/x.json",
        ".hpc/axes.yaml",
        ".env",
    )
    assert list(scan(repo).files()) == [".hpc/tasks.py", "a.py", "lib/b.py", "lib/results/kept.csv"]


def test_hpcignore_takes_away_and_brings_back(repo):
    write(repo, "a.py", "big.bin", "data/x.csv", ".env")
    (repo / ".hpcignore").write_text("*.bin\n/data/\n!.env\n")
    assert list(scan(repo).files()) == [".env", ".hpcignore", "a.py"]


def test_a_file_that_takes_the_output_of_the_command_is_left_out(repo):
    write(repo, "a.py", "driver.log", "nohup.out")
    facts = (repo / "driver.log").stat()
    tree = scan_tree(repo, [], repo.parent / "cache.json", {(facts.st_dev, facts.st_ino)})
    assert (list(tree.files()), tree.left_out) == (["a.py"], ["driver.log"])
    again = scan(repo)  # by a command without that redirection
    assert (again.sha, again.left_out) == (tree.sha, tree.left_out)


@pytest.mark.parametrize("pipe", ["> run.log", "2> run.log", "| tee run.log", "2>&1 | tee -a run.log > other"])
def test_the_files_of_standard_output_are_known_also_behind_a_pipe(tmp_path, pipe):
    if "|" in pipe and not os.path.exists("/proc/self/stat"):
        pytest.skip("pipes are followed on Linux only")
    program = """
import os, time
from hpc_agent.world import output_files
while not os.path.exists("run.log"):  # tee makes it
    time.sleep(0.01)
found = os.stat("run.log")
open("told", "w").write(str((found.st_dev, found.st_ino) in output_files()))
"""
    command = ["bash", "-c", f'"$@" {pipe}', "bash", sys.executable, "-c", program]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30, start_new_session=True)
    assert (tmp_path / "told").read_text() == "True"


def test_the_hash_follows_content_names_and_modes_only(repo):
    write(repo, "a.py", "b.py")
    first = scan(repo)
    os.utime(repo / "a.py", (1, 1))
    assert scan(repo).sha == first.sha
    (repo / "a.py").chmod(0o755)
    executable = scan(repo)
    assert executable.sha != first.sha
    (repo / "a.py").rename(repo / "c.py")
    assert scan(repo).sha != executable.sha
    assert scan(repo).changed_since(executable.entries) == ["c.py"]
    assert scan(repo).changed_since(None) == ["b.py", "c.py"]


def test_the_cache_saves_hashing_and_never_lies(repo, monkeypatch):
    write(repo, "a.py", "b.py")
    first = scan(repo)
    hashed = []
    monkeypatch.setattr(
        "hpc_agent.experiment.reading.pushed_tree._sha256", lambda path, size: hashed.append(path.name) or "0" * 64
    )
    assert scan(repo).sha == first.sha
    assert hashed == []
    (repo / "b.py").write_text("changed")
    scan(repo)
    assert hashed == ["b.py"]
    (repo.parent / "cache.json").write_text("{broken")
    scan(repo)
    assert hashed == ["b.py", "a.py", "b.py"]


def test_links_inside_travel_links_outside_are_refused(repo, tmp_path):
    write(repo, "a/x")
    (repo / "link").symlink_to("a/x")
    assert ["l", "link", "a/x"] in scan(repo).entries
    (repo / "a" / "up").symlink_to("../../outside")
    with pytest.raises(SpecInvalid, match="outside the repo") as caught:
        scan(repo)
    assert caught.value.details["path"] == "a/up"


def test_shared_paths_are_no_part_of_the_tree(repo):
    write(repo, "a.py", "data/x", "data/deep/y")
    assert list(scan(repo, "data").files()) == ["a.py"]
    assert shared_files(repo, ["data", "a.py"]) == {"a.py": 4, "data/deep/y": 11, "data/x": 6}


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe"])
def test_names_that_cannot_be_pushed_are_named(repo, name):
    with open(os.path.join(os.fsencode(repo), name), "w"):
        pass
    with pytest.raises(SpecInvalid, match="cannot be pushed"):
        scan(repo)
