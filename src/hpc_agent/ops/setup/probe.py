"""Look at a cluster before the first submit: log in as a submit does, and check what it will need."""

from __future__ import annotations

import contextlib
import platform

import msgspec

from hpc_agent._version import __version__
from hpc_agent.errors import ConfigInvalid, HpcError, PreflightFailed, SshUnreachable
from hpc_agent.infra.clusters import PACKAGED, Cluster, get_cluster, load_clusters
from hpc_agent.infra.probe import Facts, look
from hpc_agent.infra.remote import Node
from hpc_agent.ops.setup import findings, limits, login, storage
from hpc_agent.ops.setup.report import NOT_LOOKED, Check, Place, ProbeReport, ok, red, unknown
from hpc_agent.state.preflight import Marker, configuration_hash, remove_marker, write_marker
from hpc_agent.world import World

LOOK_SEC = 90.0
# What is checked there, in the order of the page.
_THERE = (
    "login_shell", "scheduler_commands", "partitions", "limits", "python", "scratch", "room", "quota", "rsync", "clock",
    "locale", "modules",
)  # fmt: skip


def run_preflight(name: str, world: World) -> ProbeReport:
    """Check a cluster, and keep the outcome: the marker is written when no check is red, and removed when one is.

    Raises ClusterUnknown.
    """
    configuration = ""
    with contextlib.suppress(ConfigInvalid):  # a check of its own
        # before the look: settings that change meanwhile were not checked
        configuration = configuration_hash(get_cluster(name, world.env, world.home))
    report = probe_cluster(name, world)
    if not report.green:
        remove_marker(world, name)
        return report
    marker = Marker(
        cluster=name,
        checked_at=world.now(),
        configuration=configuration,
        versions=report.versions,
        checks=[msgspec.to_builtins(check) for check in report.checks],
    )
    report.marker = str(write_marker(world, marker))
    return report


def raise_when_red(report: ProbeReport) -> None:
    """Raise ConfigInvalid for settings that cannot be used, PreflightFailed for any other red check; none: nothing."""
    if report.green:
        return
    first, *others = report.red
    more = f" (and {len(others)} more)" if others else ""
    kind: type[HpcError] = ConfigInvalid if first.name == "configuration" else PreflightFailed
    names = ", ".join(check.name for check in report.red)
    raise kind(
        f"{report.cluster}: {first.name}: {first.detail}{more}",
        remediation=f"Mend {names}, each with the line that is shown for it (in 'details.red'); "
        f"then run 'hpc-agent setup --cluster {report.cluster}' again.",
        details={
            "cluster": report.cluster,
            "red": msgspec.to_builtins(report.red),
            "checks": {check.name: check.state for check in report.checks},
        },
    )


def known_cluster(name: str, world: World) -> None:
    """Raises ClusterUnknown; settings that cannot be used are a check of ``probe_cluster``."""
    with contextlib.suppress(ConfigInvalid):
        get_cluster(name, world.env, world.home)


def probe_cluster(name: str, world: World) -> ProbeReport:
    """Check a cluster: settings, login, then everything there with one command, then a file there and back.

    Raises ClusterUnknown, and ConfigInvalid for a clusters.yaml that cannot be read.
    """
    raws = load_clusters(world.env, world.home)
    try:
        cluster = get_cluster(name, world.env, world.home, raws)
    except ConfigInvalid as error:
        problems = list(error.details.get("problems", [error.message]))
        host = raws[name].values.get("host")
        first = red(
            "configuration",
            "; ".join(problems),
            f"{error.remediation} The line that sets the first of them:",
            _example(error, name, host),
        )
        skipped = [unknown(step, f"{NOT_LOOKED}: the configuration comes first") for step in ("login", *_THERE)]
        return ProbeReport(cluster=name, host=str(host) if host else None, checks=[first, *skipped])
    place = Place(cluster, raws[name].user_file, world.home)
    checks, facts, node = (
        [ok("configuration", f"{place.file}" if place.file.is_file() else "the packaged clusters.yaml")],
        None,
        None,
    )
    checks += _here(place, world)
    if not any(check.state == "red" for check in checks):
        node = Node(cluster, world, "probe")
        way, facts = _login(node, place, world)
        checks += way
    if facts is None or node is None:
        failed = next(check.name for check in checks if check.state == "red")
        known = {check.name for check in checks}
        checks += [unknown(step, f"{NOT_LOOKED}: '{failed}' comes first") for step in _THERE if step not in known]
    else:
        checks += _there(facts, node, place, world)
    return ProbeReport(
        cluster=name,
        host=cluster.ssh_target,
        green=all(check.state != "red" for check in checks),
        checks=checks,
        versions=_versions(facts, cluster),
    )


def _example(error: ConfigInvalid, name: str, host: object) -> str:
    """Return the line that sets the first key that is wrong: a command where hpc-agent's own file has only a placeholder."""
    key = str(error.details.get("key") or "")
    if error.details.get("file") == str(PACKAGED) and host:
        return f"hpc-agent clusters-add {host} --name {name} --user YOUR_LOGIN_NAME"
    examples = {"user": "YOUR_LOGIN_NAME", "scratch": "/scratch/YOUR_LOGIN_NAME", "scheduler": "slurm"}
    return f"{key}: {examples.get(key, 'VALUE')}" if key else ""


def _here(place: Place, world: World) -> list[Check]:
    """Check the programs of this machine that a cluster behind ssh needs."""
    return [login.program(name, world) for name in ("ssh", "rsync")] if place.target else []


def _login(node: Node, place: Place, world: World) -> tuple[list[Check], Facts | None]:
    """Log in anew; where that wants a person, over a connection that one opened. Returns the checks, and facts of a login."""
    if not place.target:
        return [ok("login", "commands run on this machine")], look(node, world, anew=False, timeout=LOOK_SEC)
    keys = login.keys_of(place, world)
    by_master = False
    try:
        try:
            facts = look(node, world, anew=True, timeout=LOOK_SEC)
        except SshUnreachable as error:
            if "a person types" not in error.message:
                raise
            facts, by_master = look(node, world, anew=False, timeout=LOOK_SEC), True
    except HpcError as error:
        way = login.refused(error, place, keys)
        passed = any(check.name == "login" and check.state == "ok" for check in way)
        denied = any(check.name == "login" and check.state == "red" for check in way)
        agent = login.agent_check(keys, world, accepted=True if passed else False if denied else None)
        return [agent, *way], None
    return [login.agent_check(keys, world, accepted=True), *login.accepted(place, keys, by_master)], facts


def _there(facts: Facts, node: Node, place: Place, world: World) -> list[Check]:
    folder = storage.scratch(facts, place)
    usable = all(check.state != "red" for check in folder)
    rsync = findings.rsync_there(facts, place) if place.target else None
    shell = findings.login_shell(facts, place)
    if rsync is None and usable and shell.state != "red":
        rsync = storage.transfer(node, place, world)
    checks = [shell, *findings.shell_init(facts, place), findings.commands(facts, place)]
    checks += [*limits.partitions_and_limits(facts, place), findings.python(facts, place), *folder]
    first = "login_shell" if shell.state == "red" else "scratch"
    checks.append(
        rsync or unknown("rsync", f"{facts.get('rsync')} is there; {NOT_LOOKED} further: '{first}' comes first")
    )
    return [*checks, findings.clock(facts, place), findings.locale(facts, place), findings.modules(facts, place)]


def _versions(facts: Facts | None, cluster: Cluster) -> dict[str, str]:
    found = {"hpc_agent": __version__, "python_here": platform.python_version()}
    if facts is not None:
        told = {
            "python": facts.get("python.about").partition(" ")[0],
            "scheduler": facts.get(f"version.{cluster.scheduler}"),
        }
        told |= {"rsync": facts.get("rsync_version"), "system": facts.get("system")}
        found |= {name: value for name, value in told.items() if value}
    return found
