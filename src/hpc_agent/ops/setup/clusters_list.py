"""``clusters-list`` and ``clusters-describe``: what is configured, and what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid
from hpc_agent.infra.clusters import cluster_problems, get_cluster, load_clusters
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World


class ClustersListRequest(Request):
    """Nothing to ask."""


class ClusterRow(msgspec.Struct):
    name: str
    scheduler: str | None
    host: str | None
    ready: bool
    problems: Annotated[list[str], doc("file, cluster, key and what is wrong")]


class ClustersListResult(Result):
    clusters: list[ClusterRow]


@primitive(stage="setup", errors=[ConfigInvalid])
def clusters_list(request: ClustersListRequest, world: World) -> ClustersListResult:  # noqa: ARG001
    """Every configured cluster and whether it is ready to use."""
    rows = []
    clusters = load_clusters(world.env, world.home)
    for name, raw in sorted(clusters.items()):
        problems = cluster_problems(name, world.env, world.home, clusters)
        rows.append(
            ClusterRow(
                name=name,
                scheduler=raw.values.get("scheduler"),
                host=raw.values.get("host"),
                ready=not problems,
                problems=problems,
            )
        )
    return ClustersListResult(clusters=rows)


class ClustersDescribeRequest(Request):
    name: Annotated[str, doc("as clusters-list shows it")]


class ClustersDescribeResult(Result):
    name: str
    config: Annotated[dict[str, Any], doc("every key with the value in force")]
    sources: Annotated[dict[str, str], doc("key -> the file that set it; the other keys have their default")]


@primitive(stage="setup", positional="name", errors=[ClusterUnknown, ConfigInvalid])
def clusters_describe(request: ClustersDescribeRequest, world: World) -> ClustersDescribeResult:
    """One cluster's whole configuration, and which file each key comes from."""
    cluster = get_cluster(request.name, world.env, world.home)
    raw = load_clusters(world.env, world.home)[request.name]
    return ClustersDescribeResult(
        name=request.name,
        config=msgspec.to_builtins(cluster),
        sources={key: str(path) for key, path in raw.source.items()},
    )
