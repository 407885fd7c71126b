"""Checks of what the scheduler told: partitions, limits of this user, and the settings of clusters.yaml against both."""

from __future__ import annotations

from typing import Any

from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.partitions import PartitionFacts, SiteFacts
from hpc_agent.infra.probe import Facts
from hpc_agent.ops.setup.report import NOT_LOOKED, Check, Place, listing, ok, red, unknown, warn

_SHOWN = 12


def partitions_and_limits(facts: Facts, place: Place) -> list[Check]:
    site = facts.sites.get(place.cluster.scheduler)
    if site is None:
        why = facts.site_error if facts.get("python.about") and facts.site_error else "Python there comes first"
        return [unknown(name, f"{NOT_LOOKED}: {why}") for name in ("partitions", "limits")]
    return [partitions(site, place), limits(site, place)]


def partitions(site: SiteFacts, place: Place) -> Check:
    cluster = place.cluster
    if not site.partitions:
        why = "; ".join(f"{row['code']}: {row['detail']}" for row in site.errors) or "it named none"
        return unknown("partitions", f"the scheduler's partitions are not known: {why}")
    known = {partition.name: partition for partition in site.partitions}
    shown = listing([_shown(partition) for partition in site.partitions[:_SHOWN]])
    shown += f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    wanted = cluster.default_partition
    up = [p for p in site.partitions if p.state == "up"]
    usual = next((p for p in up if p.default), next(iter(up), site.partitions[0]))
    if wanted and wanted not in known:
        return red(
            "partitions",
            f"there is no '{wanted}'; there are {shown}",
            place.setting,
            f"default_partition: {usual.name}",
        )
    if wanted and known[wanted].state != "up":
        return red(
            "partitions",
            f"'{wanted}' is {known[wanted].state}; there are {shown}",
            place.setting,
            f"default_partition: {usual.name}",
        )
    return ok("partitions", shown)


def _shown(partition: PartitionFacts) -> str:
    limit = f" {duration(partition.max_walltime_sec)}" if partition.max_walltime_sec else ""
    state = "" if partition.state == "up" else f" {partition.state}"
    return f"{partition.name}{'*' if partition.default else ''}{limit}{state}"


def duration(seconds: int) -> str:
    """Return a walltime as clusters.yaml takes it."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def limits(site: SiteFacts, place: Place) -> Check:
    told = listing([_limit(limit) for limit in site.limits[:_SHOWN]])
    errors = "; ".join(f"{row['code']}: {row['detail']}" for row in site.errors)
    if not told:
        return unknown("limits", f"not known: {errors}") if errors else ok("limits", "the scheduler names none")
    over = [(key, ours, theirs) for key, ours, theirs in _above(place.cluster, site) if ours > theirs]
    if over:
        key, ours, theirs = over[0]
        detail = f"clusters.yaml allows {key} {ours}, and the site {theirs}; {told}"
        value: Any = f'"{duration(theirs)}"' if key == "max_walltime" else theirs
        return warn(
            "limits", detail, f"{place.setting.removesuffix(' set:')} below 'constraints:', set:", f"{key}: {value}"
        )
    return warn("limits", f"{told}; not known: {errors}") if errors else ok("limits", told)


def _limit(limit: Any) -> str:
    used = f", {limit.used} used" if limit.used else ""
    return f"{limit.name} {limit.limit} ({limit.scope}{used})"


def _above(cluster: Cluster, site: SiteFacts) -> list[tuple[str, int, int]]:
    """Return the limits that clusters.yaml and the site both have: key, ours, theirs."""
    rows = [
        ("max_array_size", int(cluster.constraints["max_array_size"]), row.limit)
        for row in site.limits
        if row.kind == "array_size"
    ]
    chosen = next(
        (
            p
            for p in site.partitions
            if p.name == cluster.default_partition or (not cluster.default_partition and p.default)
        ),
        None,
    )
    if chosen and chosen.max_walltime_sec:
        rows.append(("max_walltime", int(cluster.constraints["max_walltime_sec"]), chosen.max_walltime_sec))
    return rows
