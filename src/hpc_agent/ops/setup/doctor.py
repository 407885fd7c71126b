"""``doctor``: this machine, the repo and the clusters on one page, what is wrong first."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from typing import Annotated

import msgspec

from hpc_agent._version import __version__
from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, HpcError, SpecInvalid
from hpc_agent.experiment.grid.resolved_tasks import resolve_tasks
from hpc_agent.infra.clusters import PACKAGED, RawCluster, cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.ops.setup import login
from hpc_agent.ops.setup.check_preflight import age_text
from hpc_agent.ops.setup.probe import known_cluster, run_preflight
from hpc_agent.ops.setup.report import Check, ok, red, unknown, warn
from hpc_agent.ops.setup.storage import ROOM_RED, size
from hpc_agent.state.journal import TERMINAL, Journal
from hpc_agent.state.preflight import configuration_hash, freshness, read_marker
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.world import World

RESOLVE_SEC = 30.0
MOST_TASKS = 1_000_000
_SHOWN = 3
_ORDER = ("red", "warn", "unknown", "ok")


class DoctorRequest(Request):
    cluster: Annotated[str | None, doc("log in to this cluster too, as 'setup --cluster' does")] = None
    experiment_dir: ExperimentDir = "."


class Found(Check, kw_only=True, omit_defaults=True):
    """A check, and what it is about: machine, repo or a cluster's name."""

    about: str


class DoctorResult(Result):
    healthy: Annotated[bool, doc("no check is red")]
    problems: Annotated[
        list[Found], doc("what is red, what warns, what is not known; each with the line to paste, if there is one")
    ]
    in_order: Annotated[dict[str, dict[str, str]], doc("machine, repo and cluster -> check -> what was found")]
    next_step: Annotated[str, doc("the line of the first problem, else what comes next here")]


@primitive(
    stage="setup",
    effects=[Effect.SSH, Effect.PUSH],
    errors=[SpecInvalid, ClusterUnknown, ConfigInvalid],
    progress=True,
    brief="machine, repo, clusters: well?",
    example={"experiment_dir": "."},
    next_verbs=["setup", "load-context"],
)
def doctor(request: DoctorRequest, world: World) -> DoctorResult:
    """Check this machine, the repo and the clusters, and show what is wrong first, each with a command.

    No cluster is asked, unless --cluster names one: then the checks of 'setup --cluster' are made, and count for a day.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    if request.cluster:
        known_cluster(request.cluster, world)
    found = [("machine", check) for check in _machine(world)]
    found += [("repo", check) for check in _repo(repo, world)]
    with contextlib.suppress(ConfigInvalid):  # told by the machine's checks
        found += _clusters(load_clusters(world.env, world.home), request.cluster, world)
    if request.cluster:
        world.progress.say(f"logging in to {request.cluster}")
        found += [(request.cluster, check) for check in run_preflight(request.cluster, world).checks]
    problems = sorted(
        (Found(about=about, **msgspec.structs.asdict(check)) for about, check in found if check.state != "ok"),
        key=lambda row: _ORDER.index(row.state),
    )
    in_order: dict[str, dict[str, str]] = {}
    for about, check in found:
        if check.state == "ok":
            in_order.setdefault(about, {})[check.name] = check.detail
    first = next((row.paste for row in problems if row.paste and row.state in ("red", "warn")), "")
    return DoctorResult(
        healthy=all(row.state != "red" for row in problems),
        problems=problems,
        in_order=in_order,
        next_step=first or "hpc-agent load-context",
    )


def _machine(world: World) -> Iterator[Check]:
    """Yield the checks of this machine."""
    yield ok("hpc_agent", f"{__version__} with Python {platform.python_version()} ({sys.executable})")
    yield login.program("ssh", world)
    yield login.program("rsync", world)
    git = shutil.which("git", path=world.env.get("PATH"))
    yield (
        ok("git", git)
        if git
        else warn("git", "not on the PATH: a run does not record the commit", "Install it:", "sudo apt-get install git")
    )
    held = login.held_by(world.env.get("SSH_AUTH_SOCK", ""), world)
    if held:
        yield ok("ssh_agent", f"holds {held} key{'s' if held > 1 else ''}")
    else:
        found = "no agent answers" if world.env.get("SSH_AUTH_SOCK") else "SSH_AUTH_SOCK is not set"
        yield unknown(
            "ssh_agent",
            f"{'the agent holds no key' if held == 0 else found}; a key file without a passphrase needs none",
        )
    yield _journal_folder(world)
    try:
        load_clusters(world.env, world.home)
    except ConfigInvalid as error:
        yield red("clusters_yaml", error.message, error.remediation, "hpc-agent clusters-list")


def _journal_folder(world: World) -> Check:
    """Check that runs can be remembered: the folder, or the nearest one that exists, takes files and has room."""
    folder = world.journal_root
    near = next(path for path in [folder, *folder.parents] if path.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        remedy = "Let it be yours, or name another folder in HPC_JOURNAL_DIR:"
        return red("journal_folder", f"{folder}: {near} takes no files of yours", remedy, f"ls -ld {near}")
    room = shutil.disk_usage(near).free
    if room < ROOM_RED:
        return red(
            "journal_folder",
            f"{folder}: {size(room)} free on this disk",
            "Free some space; this shows what is large:",
            f"du -xsh {world.home}/* | sort -h | tail",
        )
    return ok("journal_folder", f"{folder}, {size(room)} free")


def _repo(repo: RepoLayout, world: World) -> Iterator[Check]:
    """Yield the checks of the experiment repo."""
    yield (
        ok("folder", str(repo.root))
        if os.access(repo.root, os.W_OK)
        else red(
            "folder",
            f"{repo.root} takes no files of yours, and a run writes into .hpc there",
            "Change the owner or the folder:",
            f"ls -ld {repo.root}",
        )
    )
    if not repo.tasks.is_file():
        yield unknown(
            "tasks_py",
            f"there is no {repo.tasks.relative_to(repo.root)}; 'hpc-agent suggest-setup-action' shows the first step",
        )
    else:
        yield _tasks(repo, world)
    records, torn = Journal(world, repo).all()
    for problem in torn[:_SHOWN]:
        yield red(
            "journal",
            problem,
            "Move the named file away; the run is found on the cluster again:",
            "hpc-agent list-in-flight --all-states",
        )
    running = [record for record in records if record.status not in TERMINAL]
    names = ", ".join(record.run_id for record in running[:_SHOWN])
    more = f" and {len(running) - _SHOWN} more" if len(running) > _SHOWN else ""
    yield ok("runs", f"{len(records)} known, {len(running)} in flight" + (f": {names}{more}" if running else ""))


def _tasks(repo: RepoLayout, world: World) -> Check:
    try:
        with resolve_tasks(world, repo, MOST_TASKS, RESOLVE_SEC) as tasks:
            return ok("tasks_py", f"{tasks.total:,} tasks")
    except HpcError as error:
        return red(
            "tasks_py",
            error.message,
            error.remediation,
            'python3 -c \'import runpy; t = runpy.run_path(".hpc/tasks.py"); print(t["total"](), t["resolve"](0))\'',
        )


def _clusters(raws: dict[str, RawCluster], probed: str | None, world: World) -> Iterator[tuple[str, Check]]:
    """Yield the checks of every cluster, with its marker; the examples that nobody filled in are one line."""
    examples = []
    for name, raw in sorted(raws.items()):
        if _is_example(raw, world) and name != probed:
            examples.append(name)
            continue
        if name == probed:
            continue  # its own checks tell more
        yield name, _cluster(name, raws, world)
    if examples:
        yield (
            "machine",
            ok(
                "clusters_yaml",
                f"{len(raws) - len(examples)} clusters; examples that are not filled in: {', '.join(examples)}",
            ),
        )


def _is_example(raw: RawCluster, world: World) -> bool:
    """Return whether every key of a cluster that is not ready comes from hpc-agent's own file."""
    if any(file != PACKAGED for file in raw.source.values()) or raw.broken:
        return False
    return bool(cluster_problems(raw.name, world.env, world.home, {raw.name: raw}))


def _cluster(name: str, raws: dict[str, RawCluster], world: World) -> Check:
    try:
        cluster = get_cluster(name, world.env, world.home, raws)
    except ConfigInvalid as error:
        return red("configuration", error.message, error.remediation, f"hpc-agent clusters-describe {name}")
    marker = read_marker(world, name)
    state = freshness(marker, configuration_hash(cluster), world.now())
    if marker is not None and state == "fresh":
        return ok("preflight", f"in order {age_text(int(world.now() - marker.checked_at))} ago")
    if cluster.ssh_target is None and cluster.scheduler == "local":
        return ok("preflight", "on this machine, which needs no login")
    why = {
        "absent": "not checked yet",
        "stale": "checked more than 24 hours ago",
        "other_configuration": "its settings have changed since it was checked",
    }
    return warn("preflight", why[state], "Check it before the next submit:", f"hpc-agent setup --cluster {name}")
