"""setup and install-commands on a fresh home: twice, with edited files, after a kill, and removed again."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_agent.errors import PreconditionFailed
from hpc_agent.ops.agents import assets
from hpc_agent.ops.agents.assets import MANIFEST, Installation, package_files
from hpc_agent.state.repo_files import locked

COMMANDS = ["/aggregate-hpc", "/campaign-hpc", "/monitor-hpc", "/submit-hpc"]
SKILLS = ["hpc-aggregate", "hpc-build-executor", "hpc-campaign", "hpc-classify-axis", "hpc-status", "hpc-submit",
          "hpc-wrap-entry-point"]  # fmt: skip


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def files(folder: Path) -> dict[str, bytes | None]:
    return {name: data for name, data in tree(folder).items() if data is not None and name != MANIFEST}


@pytest.mark.parametrize("verb", ["setup", "install-commands"])
def test_a_fresh_home_twice_and_away_again(run_cli, world_home, verb):
    claude = world_home.path / ".claude"
    planned = run_cli(verb, "--dry-run").data
    assert planned["assets"]["wrote"]
    assert not claude.exists()
    made = run_cli(verb).data["assets"]
    assert made["wrote"] == planned["assets"]["wrote"] == sorted(package_files())
    assert (made["commands_installed"], made["skills_installed"]) == (COMMANDS, SKILLS)
    assert (made["agents_installed"], made["hooks_installed"]) == (["hpc-worker"], ["hpc-agent-guard.py"])
    assert files(claude) == package_files()
    assert (claude / "hooks/hpc-agent-guard.py").stat().st_mode & 0o111
    before = {path: path.stat().st_mtime_ns for path in claude.rglob("*")}
    again = run_cli(verb)
    assert again.data["assets"]["wrote"] == again.data["assets"]["kept"] == []
    assert again.envelope["idempotent"] is again.data["deduped"] is True
    assert {path: path.stat().st_mtime_ns for path in claude.rglob("*")} == before
    assert run_cli(verb, "--uninstall", "--dry-run").data["assets"]["removed"] == sorted(package_files())
    assert files(claude) == package_files()
    assert run_cli(verb, "--uninstall").data["assets"]["removed"] == sorted(package_files())
    assert tree(claude) == {}
    assert run_cli(verb, "--uninstall").data["deduped"] is True


def test_what_a_person_wrote_or_changed_stays(run_cli, world_home):
    claude = world_home.path / ".claude"
    mine = claude / "commands/submit-hpc.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own command\n")
    (claude / "commands/other.md").write_text("other\n")
    (claude / "settings.json").write_text("{}")
    kept = run_cli("setup").data["assets"]["kept"]
    assert kept == [{"path": str(mine), "reason": "it was there before, with other content"}]
    edited = claude / "skills/hpc-status/SKILL.md"
    edited.write_text(edited.read_text() + "\nMine.\n")
    told = run_cli("setup").data["assets"]
    assert [entry["path"] for entry in told["kept"]] == [str(mine), str(edited)]
    assert told["kept"][1]["reason"] == "you changed it"
    assert edited.read_text().endswith("Mine.\n")
    forced = run_cli("setup", "--force").data["assets"]
    assert forced["wrote"] == ["commands/submit-hpc.md", "skills/hpc-status/SKILL.md"]
    assert mine.with_name("submit-hpc.md.mine").read_text() == "my own command\n"
    assert edited.with_name("SKILL.md.mine").read_text().endswith("Mine.\n")
    assert mine.read_bytes() == package_files()["commands/submit-hpc.md"]
    edited.write_text("again mine\n")
    gone = run_cli("setup", "--uninstall").data["assets"]
    assert [entry["path"] for entry in gone["kept"]] == [str(edited)]
    left = {"commands/other.md", "commands/submit-hpc.md.mine", "settings.json", "skills/hpc-status/SKILL.md",
            "skills/hpc-status/SKILL.md.mine"}  # fmt: skip
    assert set(files(claude)) == left
    assert not (claude / MANIFEST).exists()


def test_a_new_version_replaces_its_own_files_only(tmp_path, monkeypatch):
    old = {"commands/a.md": b"old", "commands/b.md": b"old", "commands/gone.md": b"old", "skills/s/SKILL.md": b"old"}
    monkeypatch.setattr(assets, "package_files", lambda: old)
    Installation(tmp_path).install()
    (tmp_path / "commands/b.md").write_bytes(b"mine")
    new = {"commands/a.md": b"new", "commands/b.md": b"new", "skills/s/SKILL.md": b"old"}
    monkeypatch.setattr(assets, "package_files", lambda: new)
    done = Installation(tmp_path).install()
    assert (done.wrote, done.removed) == (["commands/a.md"], ["commands/gone.md"])
    assert [entry.path for entry in done.kept] == [str(tmp_path / "commands/b.md")]
    (tmp_path / "commands/b.md").write_bytes(b"old")  # changed back: ours again
    assert Installation(tmp_path).install().wrote == ["commands/b.md"]
    assert files(tmp_path) == new


def test_a_kill_between_two_files_is_healed(tmp_path, monkeypatch):
    """At every write in turn: the next call, of this version or the next one, ends with whole files and takes none for edited."""
    versions = [
        {f"commands/{name}.md": f"{text} {name}".encode() for name in "abc"} for text in ("one", "two", "three")
    ]
    real = assets.write_bytes, assets.write_json

    class Killed(BaseException):
        pass

    for stop in range(8):
        root = tmp_path / str(stop)
        monkeypatch.setattr(assets, "package_files", lambda: versions[0])
        Installation(root).install()
        writes = []

        def counted(real_write, *arguments, stop=stop, writes=writes, **options):
            if len(writes) == stop:
                raise Killed
            writes.append(1)
            return real_write(*arguments, **options)

        monkeypatch.setattr(assets, "write_bytes", lambda *a, **o: counted(real[0], *a, **o))
        monkeypatch.setattr(assets, "write_json", lambda *a, **o: counted(real[1], *a, **o))
        monkeypatch.setattr(assets, "package_files", lambda: versions[1])
        if stop < 5:
            with pytest.raises(Killed):
                Installation(root).install()
        else:
            Installation(root).install()
        monkeypatch.setattr(assets, "write_bytes", real[0])
        monkeypatch.setattr(assets, "write_json", real[1])
        monkeypatch.setattr(assets, "package_files", lambda: versions[2])
        done = Installation(root).install()
        assert done.kept == []
        assert files(root) == versions[2]
        assert Installation(root).uninstall().kept == []
        assert tree(root) == {}


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"files": 1}'])
def test_a_broken_manifest_counts_as_none(tmp_path, manifest):
    Installation(tmp_path).install()
    (tmp_path / "commands/submit-hpc.md").write_bytes(b"mine")
    (tmp_path / MANIFEST).write_bytes(manifest)
    done = Installation(tmp_path).install()
    assert [entry.path for entry in done.kept] == [str(tmp_path / "commands/submit-hpc.md")]
    assert Installation(tmp_path).uninstall().removed == sorted(set(package_files()) - {"commands/submit-hpc.md"})


def test_a_link_into_a_repo_of_settings_stays_a_link(tmp_path, monkeypatch):
    root, repo = tmp_path / "claude", tmp_path / "dotfiles"
    (repo / "commands").mkdir(parents=True)
    root.mkdir()
    (root / "commands").symlink_to(repo / "commands")
    for data in (b"one", b"two"):
        monkeypatch.setattr(assets, "package_files", lambda data=data: {"commands/a.md": data})
        Installation(root).install()
        assert ((repo / "commands/a.md").read_bytes(), (root / "commands").is_symlink()) == (data, True)


def test_a_path_that_cannot_be_used_is_named(run_cli, world_home, tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in ("file", "file/below"):
        failed = run_cli("setup", "--claude-dir", folder)
        assert (failed.code, failed.envelope["error_code"], failed.envelope["field"]) == (
            1, "spec_invalid", "claude_dir")  # fmt: skip
    (world_home.path / ".claude/commands/submit-hpc.md").mkdir(parents=True)
    failed = run_cli("setup")
    assert failed.code == 1
    assert "submit-hpc.md" in failed.envelope["message"]
    assert run_cli("setup", "--claude-dir", "x").data["assets"]["claude_dir"] == str(tmp_path / "x")
    other = run_cli("setup", env={"CLAUDE_CONFIG_DIR": str(tmp_path / "y")}).data["assets"]
    assert other["claude_dir"] == str(tmp_path / "y")


def test_what_is_in_the_way_is_told_by_a_dry_run_too(run_cli, world_home, tmp_path):
    root, command = world_home.path / ".claude", world_home.path / ".claude/commands/submit-hpc.md"

    def told(*flags: str) -> str:
        failed = run_cli("setup", *flags)
        assert (failed.code, failed.envelope["error_code"]) == (1, "precondition_failed")
        assert "--claude-dir" in failed.envelope["remediation"]
        return failed.envelope["message"]

    for flags in ((), ("--dry-run",)):
        root.symlink_to(tmp_path / "nowhere")
        assert "a link to a folder that is not there" in told(*flags)
        root.unlink()
        root.symlink_to(root)
        assert str(root) in told(*flags)
        root.unlink()
        root.write_text("x")
        assert f"{root} cannot be used: it is no folder" in told(*flags)
        root.unlink()
        command.parent.mkdir(parents=True)
        command.symlink_to(command.name)
        assert f"{command} cannot be used" in told(*flags)
        command.unlink()
        command.parent.rmdir()
        root.rmdir()
    (root / MANIFEST).mkdir(parents=True)
    assert f"{root / MANIFEST} cannot be used" in told()


def test_a_home_that_can_only_be_read_is_told(tmp_path, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / ".claude"))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(PreconditionFailed, match="Read-only file system") as error:
        Installation(tmp_path / ".claude").install()
    assert "--claude-dir" in error.value.remediation


def test_two_calls_at_once_leave_whole_files(world_home, tmp_path):
    argv = [sys.executable, "-m", "hpc_agent", "setup"]
    calls = [
        subprocess.Popen(argv, cwd=tmp_path, env=world_home.env, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [json.loads(call.communicate(timeout=60)[0]) for call in calls]
    assert all(answer["ok"] for answer in answers)
    assert sum(bool(answer["data"]["assets"]["wrote"]) for answer in answers) == 1
    assert files(world_home.path / ".claude") == package_files()


CLUSTERS = """here: {{scheduler: local, scratch: {scratch}}}
there: {{scheduler: slurm, host: h, user: <your_user>, scratch: /x}}
"""


def test_with_a_cluster_it_checks_too_and_a_red_check_is_an_error(run_cli, world_home, tmp_path):
    (tmp_path / "clusters.yaml").write_text(CLUSTERS.format(scratch=tmp_path / "scratch"))
    world_home.env["HPC_CLUSTERS_CONFIG"] = str(tmp_path / "clusters.yaml")
    green = run_cli("setup", "--cluster", "here").data
    assert green["preflight"]["green"] is True
    assert Path(green["preflight"]["marker"]).is_file()
    assert green["assets"]["wrote"] == sorted(package_files())
    assert run_cli("setup", "--cluster", "here").data["deduped"] is False
    run_cli("setup", "--uninstall")
    red = run_cli("setup", "--cluster", "there")
    assert red.code != 0
    assert red.envelope["error_code"] == "config_invalid"
    assert "<your_user>" in red.envelope["message"]
    assert red.envelope["details"]["assets"]["wrote"] == sorted(package_files())
    assert run_cli("setup", "--cluster", "there", "--dry-run").data["preflight"] is None
    run_cli("setup", "--uninstall")
    assert run_cli("setup", "--cluster", "nowhere").envelope["error_code"] == "cluster_unknown"
    assert not (world_home.path / ".claude/commands").exists()
    assert run_cli("setup", "--cluster", "here", "--uninstall").envelope["field"] == "cluster"


def test_two_installations_do_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "LOCK_SEC", 0.1)
    with locked(tmp_path, 1, "the test"), pytest.raises(PreconditionFailed, match="busy with the files in"):
        Installation(tmp_path).install()
    assert list(tmp_path.iterdir()) == []
    assert Installation(tmp_path).install().wrote
