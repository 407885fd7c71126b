"""``clusters-add``: a login to a host, and the entry of clusters.yaml that its answers make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hpc_agent import errors
from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.clusters import Cluster, RawCluster, get_cluster
from hpc_agent.infra.clusters_file import MADE_BY, entry_text, refuse_taken, user_clusters_file, write_entry
from hpc_agent.infra.probe import Facts, look
from hpc_agent.infra.remote import Node
from hpc_agent.infra.yaml_file import read_mapping
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.setup.found_cluster import choose_scheduler, entry_of, way_to_tools
from hpc_agent.world import World

LOOK_SEC = 90.0
ClusterKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class ClustersAddRequest(Request):
    """The host, and what is known already; the rest is found."""

    host: Annotated[str, doc("ssh host or alias, as 'ssh HOST' takes it")]
    name: Annotated[ClusterKey | None, doc("name of the cluster; the first part of the host by default")] = None
    user: Annotated[str | None, doc("login name; by default what ~/.ssh/config says")] = None
    scratch: Annotated[str | None, doc("folder there for runs; found by default")] = None
    scheduler: Annotated[str | None, doc("slurm, sge, local or one of a plug-in; found by default")] = None
    account: Annotated[str | None, doc("account or project; the default one of SLURM is found")] = None
    default_partition: Annotated[str | None, doc("partition or queue; the site's default is found")] = None
    python: Annotated[str | None, doc("Python 3.6 or newer there")] = None
    modules: Annotated[list[str], doc("environment modules that jobs load")] = []
    shell_init: Annotated[str | None, doc("file there that makes the scheduler's commands known; found by default")] = (
        None
    )
    ssh_config: Annotated[str | None, doc("file for ssh -F, instead of ~/.ssh/config")] = None
    replace: Annotated[bool, doc("write over an entry of that name")] = False
    dry_run: Annotated[bool, doc("log in and show the entry; write nothing")] = False


class ClustersAddResult(Result):
    name: str
    file: Annotated[str, doc("your clusters.yaml")]
    written: bool
    replaced: Annotated[bool, doc("an entry of that name was there")]
    entry: Annotated[str, doc("the entry as it is written")]
    config: Annotated[dict[str, Any], doc("the same as data")]
    partitions: Annotated[list[str], doc("partitions or queues that take jobs")]
    scratch_candidates: Annotated[list[str], doc("folders there that you may write to")]
    python_modules: Annotated[list[str], doc("modules with 'python' in their name")]
    warnings: Annotated[list[str], doc("what to look at before the first submit")]
    next_step: str


@primitive(
    stage="setup",
    effects=[Effect.FILES, Effect.SSH],
    errors=[
        errors.SpecInvalid, errors.ConfigInvalid, errors.PreconditionFailed, errors.SshUnreachable, errors.ClusterTimeout,
        errors.RemoteCommandFailed, errors.StorageFull,
    ],
    positional="host",
    progress=True,
    brief="log in, write the entry",
    example={"host": "login.example.org", "dry_run": True},
    next_verbs=["setup", "clusters-describe"],
)  # fmt: skip
def clusters_add(request: ClustersAddRequest, world: World) -> ClustersAddResult:
    """Log in to a host, find scheduler, partitions, scratch and limits, and write its entry into your clusters.yaml.

    One command there, in which nothing is written. Flags win over what is found. Other entries of the file keep their text
    and comments. A name that is taken is refused without --replace.
    """
    name = request.name or _name_of(request.host)
    file = user_clusters_file(world.env, world.home)
    known = read_mapping(file) if file.exists() else {}
    refuse_taken(known, name, file, replace=request.replace or request.dry_run)
    given = {field: getattr(request, field) for field in _GIVEN}
    given["ssh_config"] = _from_here(request.ssh_config, world)
    user, _, host = request.host.rpartition("@")
    given |= {"host": host, "user": request.user or user or None}
    given = {key: value for key, value in given.items() if value not in (None, [])}
    checked = _checked(name, {"scheduler": "slurm", "scratch": "/scratch", **given}, world, file)
    world.progress.say(f"logging in to {request.host}")
    facts = look(Node(checked, world, "probe"), world, anew=False, timeout=LOOK_SEC, find_out=True)
    init = way_to_tools(facts)
    if init and not request.shell_init:
        given["shell_init"] = init
        again = Node(msgspec.structs.replace(checked, shell_init=init), world, "probe")
        facts = look(again, world, anew=False, timeout=LOOK_SEC, find_out=True)
    scheduler = choose_scheduler(facts, request.scheduler, request.host)
    found = entry_of(facts, scheduler, given)
    today = time.strftime("%Y-%m-%d", time.gmtime(world.now()))
    found.comments[""] = f"{request.host}, {MADE_BY} on {today}"
    _checked(name, found.values, world, file)
    text = entry_text(name, found.values, found.comments)
    replaced = name in known if request.dry_run else write_entry(file, name, text, replace=request.replace)
    return ClustersAddResult(
        name=name,
        file=str(file),
        written=not request.dry_run,
        replaced=replaced,
        entry=text,
        config=found.values,
        partitions=_partitions(facts, scheduler),
        scratch_candidates=facts.all("candidate"),
        python_modules=facts.get("python_modules").split(),
        warnings=found.warnings,
        next_step=_next(request, name),
    )


_GIVEN = ("host", "user", "ssh_config", "shell_init", "python", "scratch", "modules", "account", "default_partition")


def _name_of(host: str) -> str:
    """Return the first part of a host's name. Raises SpecInvalid where that is no name."""
    name = host.partition("@")[2] or host
    name = name if name.replace(".", "").isdigit() else name.partition(".")[0]
    try:
        return msgspec.convert(name, ClusterKey)
    except msgspec.ValidationError as error:
        message = f"host: {host!r} is no host name"
        raise SpecInvalid(
            message, field="host", remediation="Give the host as 'ssh HOST' takes it, without options."
        ) from error


def _from_here(path: str | None, world: World) -> str | None:
    """Return a path of the command line as it means the same in a file elsewhere."""
    if path is None or path.startswith(("/", "~")):
        return path
    return str(world.cwd / path)


def _checked(name: str, values: dict[str, Any], world: World, file: Path) -> Cluster:
    """Return the cluster of these values. Raises ConfigInvalid, SpecInvalid where a flag's value cannot be used."""
    try:
        raw = RawCluster(name, values, dict.fromkeys(values, file), file)
        return get_cluster(name, world.env, world.home, {name: raw})
    except errors.ConfigInvalid as error:
        key, problem = error.details["key"], error.details["problems"][0].partition(f"'{name}': ")[2]
        flag = "host" if key == "host" else "--" + key.replace("_", "-")
        message = f"{problem or error.message}"
        raise SpecInvalid(
            message, field=key or None, remediation=f"Correct {flag}, then run 'hpc-agent clusters-add' again."
        ) from error


def _partitions(facts: Facts, scheduler: str) -> list[str]:
    site = facts.sites.get(scheduler)
    return [partition.name for partition in site.partitions if partition.state == "up"] if site else []


def _next(request: ClustersAddRequest, name: str) -> str:
    return "the same call without --dry-run writes it" if request.dry_run else f"hpc-agent setup --cluster {name}"
