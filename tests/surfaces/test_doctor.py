"""doctor on one page, the day's marker, and clusters.yaml written by two at once."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import yaml
from experiment import make_repo

from hpc_agent.errors import ConfigInvalid, PreconditionFailed
from hpc_agent.infra.clusters_file import write_entry
from hpc_agent.ops.setup import probe
from hpc_agent.ops.setup.check_preflight import CheckPreflightRequest, check_preflight
from hpc_agent.ops.setup.report import ProbeReport
from hpc_agent.view.terminal.layout import lines_of
from hpc_agent.view.terminal.views import whole
from hpc_agent.world import World


def about(page, name):
    return {row["name"]: row for row in page["problems"] if row["about"] == name}


def test_a_machine_and_a_repo_in_order(run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", [{"x": 1}, {"x": 2}])
    page = run_cli("doctor", cwd=repo).data
    assert page["healthy"] and page["in_order"]["repo"]["tasks_py"] == "2 tasks"
    assert page["in_order"]["repo"]["runs"] == "0 known, 0 in flight"
    assert "discovery, hoffman2" in page["in_order"]["machine"]["clusters_yaml"]
    assert not (world_home.path / ".claude").exists(), "a look writes nothing"


def test_what_is_wrong_comes_first_with_a_command(run_cli, tmp_path, world_home):
    repo = make_repo(tmp_path / "repo", "def total():\n    return 1\n")
    few = tmp_path / "few"
    few.mkdir()
    for tool in ("ssh", "ssh-add", "env", "sh"):
        (few / tool).symlink_to(str(shutil.which(tool)))
    file = tmp_path / "clusters.yaml"
    entry = {"scheduler": "slurm", "host": "login.invalid", "scratch": "/scratch/me"}
    file.write_text(yaml.safe_dump({"mine": {**entry, "colour": "red"}, "good": entry}))
    world_home.env |= {"PATH": str(few), "HPC_CLUSTERS_CONFIG": str(file)}
    page = run_cli("doctor", cwd=repo).data
    assert not page["healthy"] and page["next_step"] == page["problems"][0]["paste"]
    order = [row["state"] for row in page["problems"]]
    assert order == sorted(order, key=["red", "warn", "unknown"].index)
    machine = about(page, "machine")
    assert machine["rsync_here"]["state"] == "red" and "rsync" in machine["rsync_here"]["paste"]
    assert machine["git"]["state"] == "warn"
    assert "resolve" in about(page, "repo")["tasks_py"]["detail"]
    assert about(page, "mine")["configuration"]["paste"] == "hpc-agent clusters-describe mine"
    assert about(page, "good")["preflight"]["paste"] == "hpc-agent setup --cluster good"
    file.write_text("a: [")
    assert "clusters_yaml" in about(run_cli("doctor", cwd=repo).data, "machine")
    file.unlink()
    file.mkdir()
    assert "clusters_yaml" in about(run_cli("doctor", cwd=repo).data, "machine")


def test_the_marker_of_this_machine(run_cli, world_home):
    """Of the cluster ``local``, which needs no login: fresh, then a day old, then torn."""
    assert run_cli("check-preflight", "local").code == 1
    marker = Path(run_cli("setup", "--cluster", "local").data["preflight"]["marker"])
    assert run_cli("preflight", "--cluster", "local").data["state"] == "fresh"
    document = json.loads(marker.read_text())
    marker.write_text(json.dumps({**document, "checked_at": document["checked_at"] - 25 * 3600}))
    stale = run_cli("check-preflight", "local").envelope
    assert stale["details"]["state"] == "stale" and "25 h ago" in stale["message"]
    marker.write_text(json.dumps({**document, "checked_at": document["checked_at"] + 1e6}))
    assert "in the future" in run_cli("check-preflight", "local").envelope["message"]
    for damaged in (json.dumps({**document, "checks": [{}]}), json.dumps({**document, "checks": [{"name": 5}]}), "{"):
        marker.write_text(damaged)
        assert run_cli("check-preflight", "local").envelope["details"]["state"] == "absent"
    shown = run_cli("setup", "--cluster", "local", "--dry-run").data
    assert shown["preflight"] is None and marker.read_text() == "{"


def test_settings_that_change_during_the_look_were_not_checked(tmp_path, monkeypatch):
    file = tmp_path / "clusters.yaml"
    entry = {"scheduler": "local", "scratch": str(tmp_path / "scratch")}
    file.write_text(yaml.safe_dump({"mine": entry}))
    world = World(env={"HPC_CLUSTERS_CONFIG": str(file), "HPC_JOURNAL_DIR": str(tmp_path / "journal")})

    def look(name, world):
        del world
        file.write_text(yaml.safe_dump({name: {**entry, "modules": ["gcc"]}}))
        return ProbeReport(cluster=name, green=True)

    monkeypatch.setattr(probe, "probe_cluster", look)
    assert probe.run_preflight("mine", world).marker
    with pytest.raises(PreconditionFailed, match="have changed"):
        check_preflight(CheckPreflightRequest(cluster="mine"), world)


def test_hosts_that_cannot_be_added(run_cli, world_home):
    for words, field in (
        (["-x"], "host"),
        (["a b"], "host"),
        (["h", "--scratch", "scratch"], "scratch"),
        (["h", "--name", "a/b"], "name"),
    ):
        refused = run_cli("clusters-add", *(["--host", *words] if words[0] == "-x" else words))
        assert (refused.code, refused.envelope["error_code"]) == (1, "spec_invalid"), refused.envelope
        assert refused.envelope.get("field") in (field, None)
    gone = run_cli("clusters-add", "no-such-host.invalid")
    assert (gone.code, gone.envelope["error_code"]) == (2, "ssh_unreachable")
    assert not (world_home.path / ".hpc-agent").exists()


def test_two_at_once_lose_nothing(tmp_path):
    target = tmp_path / "real" / "clusters.yaml"
    target.parent.mkdir()
    target.write_text("# mine\nold:\n  scheduler: local  # stays\n")
    target.chmod(0o600)
    link = tmp_path / "clusters.yaml"
    link.symlink_to(target)
    names = [f"c{number}" for number in range(12)]
    threads = [
        threading.Thread(
            target=write_entry, args=(link, name, f"{name}:\n  scheduler: sge\n"), kwargs={"replace": False}
        )
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    text = target.read_text()
    assert set(yaml.safe_load(text)) == {"old", *names} and text.startswith(
        "# mine\nold:\n  scheduler: local  # stays\n"
    )
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(PreconditionFailed):
        write_entry(link, "c3", "c3: {}\n", replace=False)
    assert write_entry(link, "c3", "c3:\n  scheduler: local\n", replace=True)
    assert yaml.safe_load(target.read_text())["c3"] == {"scheduler": "local"}


def test_a_file_that_cannot_be_extended_stays(tmp_path):
    file = tmp_path / "clusters.yaml"
    file.write_text("{a: {scheduler: local}}\n")
    with pytest.raises(ConfigInvalid, match="without changing other entries"):
        write_entry(file, "b", "b:\n  scheduler: sge\n", replace=False)
    assert file.read_text() == "{a: {scheduler: local}}\n"


def test_what_a_person_sees_of_it(run_cli, tmp_path):
    """Each view says what is wrong first, with its line on a line of its own; the answer has no other view."""
    repo = make_repo(tmp_path / "repo", "def total():\n    return 1\n")
    for words in (
        ["doctor"],
        ["setup", "--cluster", "local"],
        ["check-preflight", "local"],
        ["setup", "--cluster", "hoffman2"],
    ):
        answer = run_cli(*words, cwd=repo).envelope
        lines = ["".join(cell.text for cell in line) for line in lines_of(whole(words[0], answer), 80)]
        text = "\n".join(lines)
        wrong = answer["data"].get("problems", []) if answer["ok"] else answer["details"]["red"]
        for check in wrong:
            assert check["name"].replace("_", " ") in text
            assert not check.get("paste") or f"    {check['paste']}" in lines, text
    assert "red: configuration" in text and "hpc-agent clusters-add hoffman2.idre.ucla.edu" in text
