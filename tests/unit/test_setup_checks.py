"""Checks from facts: what is red, what only warns, what is not known; and the entry of a host that was looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from hpc_agent.errors import SpecInvalid, SshUnreachable
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.clusters_file import entry_text, with_entry
from hpc_agent.infra.partitions import Limit, PartitionFacts, SiteFacts
from hpc_agent.infra.probe import TOOLS, Facts
from hpc_agent.ops.setup import findings, limits, login, storage
from hpc_agent.ops.setup.found_cluster import choose_scheduler, entry_of, way_to_tools
from hpc_agent.ops.setup.report import Place
from hpc_agent.state.preflight import FRESH_SEC, Marker, freshness

LIMITS = {"max_array_size": 1000, "max_walltime_sec": 3600}
PLACE = Place(
    Cluster(name="c", scheduler="slurm", host="login", scratch="/scratch/me", constraints=LIMITS),
    Path("/home/me/clusters.yaml"),
    Path("/home/me"),
)


def facts(scheduler: str = "slurm", sites: dict[str, SiteFacts] | None = None, **told: Any) -> Facts:
    """``tool_sbatch="/bin/sbatch"`` is the fact tool.sbatch; a list is a fact that was told several times."""
    values = {
        name.replace("_", ".", 1) if name.split("_")[0] in PREFIXES else name: value for name, value in told.items()
    }
    tools = [tool for name in ([scheduler] if scheduler else TOOLS) for tool in TOOLS.get(name, ())]
    return Facts(
        told={name: value if isinstance(value, list) else [value] for name, value in values.items()},
        tools=tools, asked=1000.0, answered=1001.0, sites=sites or {},
    )  # fmt: skip


PREFIXES = ("tool", "by", "in", "scratch", "quota", "python", "version")
ALL = {f"tool_{tool}": f"/usr/bin/{tool}" for tool in TOOLS["slurm"]}


@pytest.mark.parametrize(
    ("changes", "state", "paste"),
    [
        ({}, "ok", ""),
        ({"tool_sacct": None}, "warn", ""),
        ({"tool_sbatch": None, "by_sbatch": "/etc/profile"}, "red", "shell_init: /etc/profile"),
        (
            {"tool_sbatch": None, "in_sbatch": "/opt/slurm/bin"},
            "red",
            "echo 'export PATH=/opt/slurm/bin:$PATH' | ssh login",
        ),
        (
            {"tool_sbatch": None, "in_sbatch": "/opt/b", "login_shell": "/bin/tcsh"},
            "red",
            "echo 'setenv PATH /opt/b:$PATH' | ",
        ),
        ({"tool_sbatch": None}, "red", "ssh login"),
    ],
)
def test_commands_of_the_scheduler(changes, state, paste):
    told = {name: value for name, value in {**ALL, "login_shell": "/bin/bash", **changes}.items() if value}
    check = findings.commands(facts(**told), PLACE)
    assert check.state == state and check.paste.startswith(paste), check


@pytest.mark.parametrize(
    ("about", "state"),
    [
        ("3.6.8 utf-8 /usr/bin/python3", "ok"),
        ("3.5.9 utf-8 /p", "red"),
        ("2.7.5 None /p", "red"),
        ("bash: cannot exec", "red"),
    ],
)
def test_python(about, state):
    assert findings.python(facts(python="/p", python_about=about), PLACE).state == state


def test_python_that_is_not_there_and_one_that_is():
    check = findings.python(facts(in_python3=["/opt/py/bin"]), PLACE)
    assert (check.state, check.paste) == ("red", "python: /opt/py/bin/python3")


@pytest.mark.parametrize(
    ("there", "state"), [(1000, "ok"), (970, "ok"), (900, "warn"), (1100, "warn"), (1400, "red"), (1, "red")]
)
def test_clock(there, state):
    assert findings.clock(facts(time=str(there)), PLACE).state == state


def test_a_clock_that_told_nothing_is_not_known():
    assert findings.clock(facts(), PLACE).state == "unknown"


@pytest.mark.parametrize(
    ("told", "states"),
    [
        ({"scratch": "folder", "scratch_write": "ok"}, {"scratch": "ok", "room": "unknown", "quota": "unknown"}),
        ({"scratch": "folder", "scratch_write": "ok", "scratch_room": "/dev/x 100 90 10 90% /s"}, {"room": "red"}),
        ({"scratch": "folder", "scratch_write": "ok", "scratch_room": "x 9999999999 1 9000000000 1% /s",
          "scratch_files": "x 1000 999 1 99% /s"}, {"room": "red"}),
        ({"scratch": "folder", "scratch_write": "ok", "scratch_room": "x 9999999999 1 9000000000 1% /s",
          "scratch_files": "x 0 0 0 - /s"}, {"room": "ok"}),
        ({"scratch": "folder", "scratch_write": "dd: error writing 'x': Disk quota exceeded"}, {"scratch": "red"}),
        ({"scratch": "folder", "scratch_write": "dd: failed to open 'x': Permission denied"}, {"scratch": "red"}),
        ({"scratch": "missing", "scratch_near": "/", "scratch_makeable": "yes"}, {"scratch": "red"}),
        ({"scratch": "missing", "scratch_near": "/"}, {"scratch": "red"}),
        ({"scratch": "file"}, {"scratch": "red"}),
        ({"scratch": "folder", "scratch_write": "ok", "quota_lfs": "/s 120* 100 110 6d 5 0 0 -"}, {"quota": "warn"}),
        ({"scratch": "folder", "scratch_write": "ok", "quota_quota": "/dev/x 12 100 110"}, {"quota": "ok"}),
    ],
)  # fmt: skip
def test_scratch(told, states):
    found = {check.name: check.state for check in storage.scratch(facts(**told), PLACE)}
    assert {name: found[name] for name in states} == states


def test_what_the_scheduler_told_against_the_settings():
    rows = [PartitionFacts(name="long", max_walltime_sec=3600, default=True), PartitionFacts(name="off", state="down")]
    site = SiteFacts(scheduler="slurm", partitions=rows, limits=[Limit("MaxArraySize", "cluster", "array_size", 500)])
    above = limits.limits(site, PLACE)
    assert (above.state, above.paste) == ("warn", "max_array_size: 500")
    closed = Place(msgspec.structs.replace(PLACE.cluster, default_partition="off"), PLACE.file, PLACE.home)
    assert limits.partitions(site, closed).paste == "default_partition: long"
    silent = SiteFacts(scheduler="slurm", partitions=[], limits=[], errors=[{"code": "sinfo_failed", "detail": "no"}])
    assert [limits.partitions(silent, PLACE).state, limits.limits(silent, PLACE).state] == ["unknown", "unknown"]
    assert [limits.duration(60), limits.duration(90061)] == ["00:01:00", "1-01:01:01"]


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("ssh: Could not resolve hostname x", "address"),
        ("ssh: connect to host x port 22: Connection refused", "port"),
        ("Host key verification failed.", "host_key"),
        ("me@x: Permission denied (publickey).", "login"),
        ("/home/me/.ssh/config: line 3: Bad configuration option: x", "ssh_program"),
    ],
)
def test_the_step_at_which_a_login_failed(said, step):
    keys = login.Keys(None, "", [], [], {"user": ["me"], "hostname": ["x"], "port": ["22"]})
    error = SshUnreachable(f"x: {said}", remediation="See that 'ssh x true' works.", details={"stderr_tail": said})
    found = login.refused(error, PLACE, keys)
    assert [check.name for check in found if check.state == "red"] == [step]
    names = [check.name for check in found]
    assert all(check.state == "ok" for check in found[: names.index(step)])
    assert all(check.state == "unknown" for check in found[names.index(step) + 1 :])


def test_a_marker_counts_for_a_day_and_for_its_settings():
    marker = Marker(cluster="c", checked_at=1000.0, configuration="a")
    states = [freshness(marker, "a", 1000 + age) for age in (0, FRESH_SEC - 1, FRESH_SEC, -5)]
    assert states == ["fresh", "fresh", "stale", "stale"]
    assert [freshness(marker, "b", 1001), freshness(None, "a", 1001)] == ["other_configuration", "absent"]


def test_the_scheduler_of_a_host():
    slurm = SiteFacts(scheduler="slurm", partitions=[PartitionFacts(name="p")], limits=[])
    sge = SiteFacts(scheduler="sge", partitions=[PartitionFacts(name="q")], limits=[])
    both = facts("", {"slurm": slurm, "sge": sge}, tool_sbatch="/b/sbatch", tool_qconf="/b/qconf")
    assert choose_scheduler(facts("", {"slurm": slurm}, tool_sbatch="/b/sbatch"), None, "h") == "slurm"
    assert choose_scheduler(both, "sge", "h") == "sge"
    with pytest.raises(SpecInvalid, match="slurm and sge"):
        choose_scheduler(both, None, "h")
    with pytest.raises(SpecInvalid, match="not Grid Engine's"):
        choose_scheduler(facts("", tool_qsub="/opt/pbs/bin/qsub"), None, "h")
    with pytest.raises(SpecInvalid, match="no sge"):
        choose_scheduler(facts("", {"slurm": slurm}, tool_sbatch="/b/sbatch"), "sge", "h")
    assert choose_scheduler(facts(""), "local", "h") == "local"
    assert way_to_tools(facts("", by_sbatch="/etc/profile.d/slurm.sh")) == "/etc/profile.d/slurm.sh"


def test_the_entry_of_a_host():
    rows = [
        PartitionFacts(name="a", cpus_total=5),
        PartitionFacts(name="b", cpus_total=9, max_walltime_sec=7200, mem_mb=100),
    ]
    site = SiteFacts(scheduler="sge", partitions=rows, limits=[Limit("x", "cluster", "submitted", 20)])
    told = {
        "candidate": ["/home/me", "/work/me"],
        "home": "/home/me",
        "python_about": "2.7.5 x /p",
        "in_python3": "/opt/bin",
    }
    found = entry_of(
        facts("sge", {"sge": site}, environments="mpi smp", resources="h_vmem", **told),
        "sge",
        {"host": "h", "account": "x"},
    )
    wanted = {"scheduler": "sge", "host": "h", "account": "x", "scratch": "/work/me", "python": "/opt/bin/python3",
              "default_partition": "b", "max_node_mem_mb": 100, "parallel_environment": "smp", "sge_memory_resource": "h_vmem",
              "constraints": {"max_walltime": "02:00:00", "max_submitted": 20}}  # fmt: skip
    assert found.values == wanted and found.warnings
    assert yaml.safe_load(entry_text("n", found.values, found.comments)) == {"n": wanted}


BEFORE = "# top\na:  # one\n  scheduler: local\n  note: |\n    text\n# of b\nb: {scheduler: sge, scratch: /s}\n# end\n"


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("c", BEFORE + "\nNEW: 1\n"),
        ("a", "# top\nNEW: 1\n# of b\nb: {scheduler: sge, scratch: /s}\n# end\n"),
        ("b", BEFORE.replace("b: {scheduler: sge, scratch: /s}\n", "NEW: 1\n")),
    ],
)
def test_an_entry_is_written_and_the_others_stay(name, after):
    assert with_entry(BEFORE, name, "NEW: 1\n") == after
    assert with_entry("", "a", "NEW: 1\n") == "NEW: 1\n"
