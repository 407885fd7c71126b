"""Partitions, GPUs and limits of a cluster, as its scheduler reports them now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hpc_agent.infra.remote import Node


class Gpu(msgspec.Struct):
    """GPUs of one kind in a partition; ``idle`` where the scheduler reports it."""

    type: str
    total: int
    idle: int | None = None


class PartitionFacts(msgspec.Struct, kw_only=True):
    """A partition (SLURM) or queue (Grid Engine). Memory (MiB) and ``cpus_node`` are those of its largest node."""

    name: str
    state: str = "up"
    default: bool = False
    max_walltime_sec: int | None = None
    nodes: int = 0
    cpus_total: int = 0
    cpus_idle: int = 0
    cpus_node: int | None = None
    mem_mb: int | None = None
    gpus: list[Gpu] = []
    priority_tier: int | None = None
    pending_jobs: int | None = None


class Limit(msgspec.Struct):
    """A limit of the site: ``kind`` is submitted, running, array_size or jobs; ``used``: what counts towards it."""

    name: str
    scope: str
    kind: str
    limit: int
    used: int | None = None


class SiteFacts(msgspec.Struct, kw_only=True):
    """``submitted``: elements of all of the user's jobs; ``errors``: tools that did not answer."""

    scheduler: str
    partitions: list[PartitionFacts]
    limits: list[Limit]
    submitted: int | None = None
    errors: list[dict[str, str]] = []


def ask_site(node: Node, placement: Mapping[str, str | None] | None = None) -> SiteFacts:
    """Return the facts of a cluster, with one SSH command. Raises SshUnreachable, ClusterTimeout, RemoteCommandFailed.

    ``placement``: account, qos and partition of the jobs whose limits are asked for; else the cluster's.
    """
    usual = {"account": node.cluster.account, "partition": node.cluster.default_partition}
    asked = {**usual, **{name: value for name, value in (placement or {}).items() if value}}
    site = {**node.site, "placement": asked}
    question = {"root": node.root, "scheduler": node.cluster.scheduler, "site": site}
    answer: dict[str, Any] = node.bootstrap("site", question)
    answer["submitted"] = answer.pop("user")["submitted"]
    return msgspec.convert(answer, SiteFacts, strict=False)
