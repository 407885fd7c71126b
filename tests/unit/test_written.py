import os
import stat

import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.generated_file import compare_generated, write_generated


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    (root / ".hpc").mkdir(parents=True)
    return root


def test_written_once_then_kept_and_never_overwritten_unasked(repo):
    path = repo / "lib" / "deep" / "a.py"
    assert write_generated(path, "é = 1\n", False) == "written"
    assert path.read_bytes() == "é = 1\n".encode()
    before = path.stat()
    assert write_generated(path, "é = 1\n", False) == "kept"
    assert write_generated(path, "é = 1\n", True) == "kept"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(SpecInvalid) as caught:
        write_generated(path, "é = 2\n", False)
    assert caught.value.field == "force"
    assert str(path) in caught.value.message
    assert "--force" in caught.value.remediation
    assert path.read_text(encoding="utf-8") == "é = 1\n"
    assert write_generated(path, "é = 2\n", True) == "written"
    assert path.read_text(encoding="utf-8") == "é = 2\n"
    assert os.listdir(path.parent) == ["a.py"]


def test_a_comparison_writes_nothing(repo):
    path = repo / "new" / "a.py"
    assert compare_generated(path, "x") == "missing"
    assert not path.parent.exists()
    write_generated(path, "x", False)
    assert (compare_generated(path, "x"), compare_generated(path, "x\r")) == ("same", "differs")


def test_the_mode_is_kept_and_a_new_file_has_the_usual_one(repo):
    usual = repo / "usual"
    usual.write_text("")
    path = repo / "run.sh"
    write_generated(path, "one", False)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    path.chmod(0o750)
    write_generated(path, "two", True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_link_inside_the_repo_is_followed_and_stays_a_link(repo):
    (repo / "real.py").write_text("old")
    (repo / "a.py").symlink_to("real.py")
    assert write_generated(repo / "a.py", "new", True) == "written"
    assert (repo / "a.py").is_symlink()
    assert (repo / "real.py").read_text() == "new"


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_link_that_leads_out(repo, tmp_path, force):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.py").write_text("theirs")
    (repo / "file.py").symlink_to(outside / "a.py")
    (repo / "dangling.py").symlink_to(outside / "b.py")
    (repo / "folder").symlink_to(outside)
    (repo / "loop").symlink_to("loop")
    for name in ("file.py", "dangling.py", "folder/a.py", "folder/new.py", "loop", "../outside/c.py"):
        with pytest.raises(SpecInvalid):
            write_generated(repo / name, "ours", force)
        with pytest.raises(SpecInvalid):
            write_generated(repo / name, "theirs", force, root=repo)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"a.py": "theirs"}


def test_the_hpc_folder_itself_may_not_lead_out(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / ".hpc").symlink_to(tmp_path / "outside")
    with pytest.raises(SpecInvalid):
        write_generated(tmp_path / "repo" / ".hpc" / "tasks.py", "x", True)
    assert not list((tmp_path / "outside").iterdir())


def test_a_folder_in_the_place_of_a_file_and_the_other_way_round(repo):
    (repo / "folder").mkdir()
    (repo / "file").write_text("x")
    for name in ("folder", "file/a.py", "file/deep/a.py"):
        with pytest.raises(SpecInvalid):
            write_generated(repo / name, "x", True)


def test_a_failed_write_leaves_the_old_file_and_no_other(repo, monkeypatch):
    path = repo / "a.py"
    write_generated(path, "old", False)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_generated(path, "new", True)
    assert path.read_text() == "old"
    assert sorted(os.listdir(repo)) == [".hpc", "a.py"]
