"""The node's copy of nfs_data_dir: whole, of the folder's present state, or else the folder itself."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dispatched_element import Element
from experiment import aggregate, make_repo, submit, watch

from hpc_agent.node.job import staging
from hpc_agent.node.job.staging import Staged

STAGE = "import sys; from hpc_agent.node.job.staging import Staged; held = Staged({!r}); print(held.path, flush=True); input()"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of data, and a node's disk of its own."""
    monkeypatch.setenv("HPC_LOCAL_SCRATCH", str(tmp_path / "disk"))
    source = tmp_path / "data"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "a").write_text("old")
    (source / "deep" / "er" / "b").write_text("b" * 100_000)
    return source


def stage(source: Path) -> "subprocess.Popen[str]":
    """An element on the same node: prints its copy, and uses it until a line comes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", STAGE.format(str(source))], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def copies(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "disk").glob("*/*") if path.is_dir())


def same(copy: str, source: Path) -> bool:
    return not subprocess.run(["diff", "-r", copy, str(source)], check=False).returncode and copy != str(source)


def test_elements_that_start_at_once_share_one_copy(data, tmp_path):
    elements = [stage(data) for _ in range(6)]
    paths = {process.stdout.readline().strip() for process in elements}
    assert len(paths) == 1 == len(copies(tmp_path))
    assert same(paths.pop(), data)
    for process in elements:
        assert process.communicate("\n", timeout=30)[1] == ""


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed"])
def test_a_folder_that_has_changed_is_copied_anew(data, tmp_path, change):
    """Also where size and time of the changed file are those of before, as rsync -t and tar leave them."""
    running = stage(data)
    old = running.stdout.readline().strip()
    if change == "content":
        times = os.stat(data / "a")
        (data / "a").write_text("new")
        os.utime(data / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    elif change == "new":
        (data / "deep" / "c").touch()
    elif change == "gone":
        (data / "a").unlink()
    else:
        (data / "a").rename(data / "z")
    new = Staged(str(data))
    assert same(new.path, data)
    assert (Path(old) / "a").read_text() == "old", "an element that runs keeps its copy"
    running.communicate("\n", timeout=30)
    (data / "d").touch()
    newest = Staged(str(data))
    assert same(newest.path, data)
    assert set(copies(tmp_path)) == {Path(new.path).name, Path(newest.path).name}, "what nobody uses is removed"


def test_a_kill_in_the_middle_leaves_no_half_copy(data, tmp_path):
    (data / "big").write_bytes(b"x" * 300_000_000)
    process = stage(data)
    end = time.monotonic() + 30
    while not list((tmp_path / "disk").glob("*/*.building/*")) and time.monotonic() < end:
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=30)
    assert [name for name in copies(tmp_path) if name.endswith(".building")]
    assert same(Staged(str(data)).path, data)
    assert not [name for name in copies(tmp_path) if name.endswith(".building")]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("checked", [True, False])
def test_a_full_disk_is_told_and_left_as_it_was(data, tmp_path, monkeypatch, capsys, checked):
    """Full before the copy, or only while the copy is made."""
    (tmp_path / "disk").mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path / "disk")], check=False
    ).returncode:
        pytest.skip("mount is not allowed here")
    try:
        if not checked:
            usage = shutil.disk_usage("/")
            monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: usage._replace(free=1 << 40))
        assert Staged(str(data)).path == str(data)
        assert "No space left" in capsys.readouterr().err
        assert copies(tmp_path) == []
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=False)


def test_what_changes_while_it_is_copied_is_read_in_its_place(data, tmp_path, monkeypatch, capsys):
    copytree = shutil.copytree

    def slow(*arguments: object) -> None:
        copytree(*arguments)
        (data / "a").write_text("newer")

    monkeypatch.setattr(staging.shutil, "copytree", slow)
    assert Staged(str(data)).path == str(data)
    assert "changed while it was copied" in capsys.readouterr().err
    assert copies(tmp_path) == []


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_a_copy_that_lost_files_is_made_again(data, damage):
    """Cleaners of /tmp remove single old files; a crash of the node can leave empty ones."""
    copy = Staged(str(data)).path
    path = Path(copy, "deep/er/b")
    path.unlink() if damage == "removed" else path.write_text("")
    other = stage(data)
    assert other.stdout.readline().strip() == copy
    assert same(copy, data)
    path.unlink()
    assert Staged(str(data)).path == str(data), "the damaged copy is in use"
    other.communicate("\n", timeout=30)


def test_a_link_that_leads_back_is_no_endless_copy(data, capsys):
    (data / "deep" / "back").symlink_to(data)
    assert Staged(str(data)).path == str(data)
    assert "leads back" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told(tmp_path, capsys):
    assert Staged(str(tmp_path / "gone")).path == str(tmp_path / "gone")
    assert "No such file" in capsys.readouterr().err


def test_an_element_reads_the_copy(data, tmp_path):
    executor = 'echo "{\\"y\\": $(wc -c <"$LOCAL_DATA_DIR/a")}" >"$HPC_RESULT_DIR/metrics.json"; echo $LOCAL_DATA_DIR'
    element = Element(tmp_path / "hpc-agent" / "repo").submit(executor, 2, nfs_data_dir=str(data))
    assert element.run() == 0, element.said
    assert [element.record(task)["metrics"] for task in range(2)] == [{"y": 3}, {"y": 3}]
    assert element.log(0).startswith(str(tmp_path / "disk"))


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_next_run_reads_what_has_changed_since(site, run_cli, tmp_path, clusters_file, world_home):
    world_home.env["HPC_LOCAL_SCRATCH"] = str(tmp_path / "disk")
    data = tmp_path / "data"
    data.mkdir()
    clusters_file.write_text(site.clusters_yaml(nfs_data_dir=str(data)))
    repo = make_repo(tmp_path / "repo", [{"x": x} for x in range(3)])
    means = []
    for text in ("1", "2"):
        (data / "value").write_text(text)
        submit(
            run_cli, repo, 'echo "{\\"y\\": $(cat "$LOCAL_DATA_DIR/value")}" >"$HPC_RESULT_DIR/metrics.json"', "--rerun"
        )
        assert watch(run_cli, repo)["lifecycle_state"] == "complete"
        overall = aggregate(run_cli, repo)["overall"]["y"]
        means.append((overall["count"], overall["mean"]))
    assert means == [(3, 1.0), (3, 2.0)]
    assert len(copies(tmp_path)) == 1
