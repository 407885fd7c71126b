"""``clusters-list`` and ``clusters-describe``: show the configured clusters and their problems."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid
from hpc_agent.infra.clusters import cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World


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


@primitive(stage="setup", errors=[ConfigInvalid])
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


@primitive(stage="setup", positional="name", errors=[ClusterUnknown, ConfigInvalid])
def clusters_describe(request: ClustersDescribeRequest, world: World) -> ClustersDescribeResult:
    """Show the whole configuration of a cluster, with the file of each key."""
    cluster = get_cluster(request.name, world.env, world.home)
    raw = load_clusters(world.env, world.home)[request.name]
    sources = {key: str(path) for key, path in raw.source.items()}
    return ClustersDescribeResult(name=request.name, config=msgspec.to_builtins(cluster), sources=sources)
