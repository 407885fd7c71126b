"""The inventory: every verb and every configured cluster. Nothing is changed or asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec

import hpc_agent
from hpc_agent.contract.catalogue import catalogue_entry
from hpc_agent.contract.primitive import Effect, Primitive, Request, Result, load_all, primitive
from hpc_agent.errors import BY_CODE, EXIT_CODES, ClusterUnknown, ConfigInvalid
from hpc_agent.infra.backends import backend_names
from hpc_agent.infra.clusters import cluster_keys, cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World


class CapabilitiesRequest(Request):
    """What to list."""

    full: Annotated[
        bool, doc("the whole contract: configuration keys, error codes, environment, every verb's entry")
    ] = False


class CapabilitiesResult(Result, kw_only=True, omit_defaults=True):
    """The verbs in short; with ``full`` the other fields too, and ``operations`` in place of the lines."""

    version: str
    marks: Annotated[str, doc("what the mark behind a verb's name says of its effects")] = ""
    verbs: Annotated[dict[str, list[str]], doc("stage -> name of the verb, mark, what it is for")] = {}
    more: Annotated[list[str], doc("commands that tell more")] = []
    schedulers: Annotated[list[str], doc("schedulers that a cluster may name")] = []
    schemas_dir: Annotated[str, doc("folder of the JSON Schemas of every request, result and the envelope")] = ""
    journal_dir: str = ""
    cluster_yaml_keys: Annotated[list[dict[str, Any]], doc("every key of clusters.yaml")] = []
    error_codes: Annotated[list[dict[str, Any]], doc("error_code, exit code, retry_safe, meaning, remediation")] = []
    environment: Annotated[dict[str, str], doc("environment variables of hpc-agent")] = {}
    operations: Annotated[list[dict[str, Any]], doc("the whole catalogue")] = []


ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "what a worker of 'run' signs in with; or a cloud provider's credentials",
    "CLAUDE_CONFIG_DIR": "where setup installs the files for Claude Code [~/.claude]",
    "HPC_AGENT_WORKER": "set for a worker, which starts no worker; plan: it can submit nothing",
    "HPC_CLUSTERS_CONFIG": "your clusters.yaml, merged over the packaged one",
    "HPC_JOURNAL_DIR": "where runs are remembered [~/.claude/hpc]",
    "HPC_NO_BREAKER": "1: ask a host at once although it has not answered five times in a row",
    "HPC_NO_SSH_MULTIPLEX": "1: no private ControlMaster; your own ~/.ssh/config decides",
    "HPC_PROGRESS": "auto, json or none: what is written to stderr",
    "HPC_RSYNC_TIMEOUT_SEC": "limit of one push [1800]",
    "HPC_SSH_BINARY": "the ssh program [ssh]",
    "HPC_SSH_TIMEOUT_SEC": "limit of one remote command [120]",
    "XDG_CACHE_HOME": "where recall keeps its index [~/.cache]",
    "SSH_AUTH_SOCK": "your ssh agent; must reach this process when keys live in an agent",
}


MARKS = {"!": "submits jobs", "@": "asks the cluster", "+": "writes files here", ":": "none of these"}
MORE = ["hpc-agent find WORDS", "hpc-agent describe VERB", "hpc-agent capabilities --full"]
# The bytes of the list: with what stands around it the line has at most 4 KB.
MOST_BYTES = 4096 - 260


@primitive(
    stage="introspect",
    brief="every verb",
    example={"full": True},
    next_verbs=["find", "describe"],
)
def capabilities(request: CapabilitiesRequest, world: World) -> CapabilitiesResult:
    """List every verb with one line; with ``full`` also configuration keys, error codes and whole entries."""
    if not request.full:
        marks = "; ".join(f"{mark} {meaning}" for mark, meaning in MARKS.items())
        return CapabilitiesResult(
            version=hpc_agent.__version__, marks=marks, verbs=short_list(load_all().values()), more=MORE
        )
    codes = []
    for code, error in sorted(BY_CODE.items()):
        facts = {"error_code": code, "exit_code": EXIT_CODES[error.category], "retry_safe": error.retry_safe}
        codes.append({**facts, "meaning": (error.__doc__ or "").strip(), "remediation": error.default_remediation})
    return CapabilitiesResult(
        version=hpc_agent.__version__,
        schedulers=backend_names(),
        schemas_dir=str(Path(hpc_agent.__file__).parent / "schemas"),
        journal_dir=str(world.journal_root),
        cluster_yaml_keys=msgspec.to_builtins(cluster_keys()),
        error_codes=codes,
        environment=ENVIRONMENT,
        operations=[{"name": name, **msgspec.to_builtins(catalogue_entry(p))} for name, p in load_all().items()],
    )


def short_list(verbs: Iterable[Primitive], most: int = MOST_BYTES) -> dict[str, list[str]]:
    """Return the verbs by stage, each as name, mark and brief line.

    Where all lines together are too long, the last verbs have their names only: a name is never left out.
    """
    ordered = sorted(verbs, key=lambda verb: (verb.stage, verb.name))
    rows = {verb.name: f"{verb.name}{_mark(verb)} {verb.brief}" for verb in ordered}
    for verb in reversed(ordered):
        listed: dict[str, list[str]] = {}
        for each in ordered:
            listed.setdefault(each.stage, []).append(rows[each.name])
        if len(msgspec.json.encode(listed)) <= most:
            break
        rows[verb.name] = f"{verb.name}{_mark(verb)}"
    return listed


def _mark(verb: Primitive) -> str:
    if Effect.SUBMIT in verb.effects:
        return "!"
    asks = "@" if Effect.SSH in verb.effects else ""
    writes = "+" if not {Effect.FILES, Effect.JOURNAL, Effect.PUSH}.isdisjoint(verb.effects) else ""
    return asks + writes or ":"


class ClustersListRequest(Request):
    """A request without fields."""


class ClusterRow(msgspec.Struct):
    name: str
    scheduler: str | None
    host: str | None
    ready: bool
    problems: Annotated[list[str], doc("file, cluster, key and the problem")]


class ClustersListResult(Result):
    clusters: list[ClusterRow]


@primitive(
    stage="setup",
    errors=[ConfigInvalid],
    brief="the configured clusters",
    next_verbs=["clusters-describe"],
)
def clusters_list(request: ClustersListRequest, world: World) -> ClustersListResult:  # noqa: ARG001
    """List every configured cluster, with the problems of those that are not ready."""
    rows = []
    clusters = load_clusters(world.env, world.home)
    for name, raw in sorted(clusters.items()):
        problems = cluster_problems(name, world.env, world.home, clusters)
        scheduler, host = raw.values.get("scheduler"), raw.values.get("host")
        rows.append(ClusterRow(name, scheduler, host, ready=not problems, problems=problems))
    return ClustersListResult(clusters=rows)


class ClustersDescribeRequest(Request):
    name: Annotated[str, doc("as clusters-list shows it")]


class ClustersDescribeResult(Result):
    name: str
    config: Annotated[dict[str, Any], doc("every key with the value in force")]
    sources: Annotated[dict[str, str], doc("key -> the file that set it; the other keys have their default")]


@primitive(
    stage="setup",
    positional="name",
    errors=[ClusterUnknown, ConfigInvalid],
    brief="one cluster's keys",
    example={"name": "local"},
    next_verbs=["recommend-partition", "submit"],
)
def clusters_describe(request: ClustersDescribeRequest, world: World) -> ClustersDescribeResult:
    """Show the whole configuration of a cluster, with the file of each key."""
    clusters = load_clusters(world.env, world.home)
    cluster = get_cluster(request.name, world.env, world.home, clusters)
    sources = {key: str(path) for key, path in clusters[request.name].source.items()}
    return ClustersDescribeResult(name=request.name, config=msgspec.to_builtins(cluster), sources=sources)
