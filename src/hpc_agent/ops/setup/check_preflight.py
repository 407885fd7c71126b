"""``check-preflight``: whether a cluster was found in order within the last day, and with the settings that hold now."""

from __future__ import annotations

from typing import Annotated, Any

from hpc_agent.contract.primitive import Request, Result, primitive
from hpc_agent.errors import ClusterUnknown, ConfigInvalid, PreconditionFailed
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.ops.run.fields import ClusterName, doc
from hpc_agent.state.preflight import FRESH_SEC, Freshness, configuration_hash, freshness, marker_path, read_marker
from hpc_agent.world import World

_WHY = {
    "absent": "the set-up of '{name}' was not checked on this machine, or a check was red",
    "stale": "the set-up of '{name}' was checked {age} ago; that counts for 24 hours",
    "other_configuration": "the settings of '{name}' in clusters.yaml have changed since its set-up was checked",
}
_OF_THE_FUTURE = "the set-up of '{name}' was checked in the future: the clock of this machine was wrong, then or now"


class CheckPreflightRequest(Request):
    cluster: ClusterName


class CheckPreflightResult(Result):
    cluster: str
    state: Annotated[Freshness, doc("always fresh: any other state is an error, and 'details' has it")]
    all_ok: bool
    checked_at: Annotated[float, doc("seconds since 1970")]
    age_sec: int
    left_sec: Annotated[int, doc("seconds until it has to be checked again")]
    marker: Annotated[str, doc("the file that says so")]
    versions: Annotated[dict[str, str], doc("of hpc-agent, Python, scheduler and rsync, as they were found")]
    checks: Annotated[dict[str, str], doc("name -> state of each check; the marker file has what was found")]
    warnings: Annotated[list[dict[str, Any]], doc("the checks that warned: name, detail and the line to paste")]


@primitive(
    stage="setup",
    aliases=["preflight"],
    positional="cluster",
    errors=[ClusterUnknown, ConfigInvalid, PreconditionFailed],
    brief="is the set-up check fresh",
    example={"cluster": "local"},
    next_verbs=["setup", "submit"],
)
def check_preflight(request: CheckPreflightRequest, world: World) -> CheckPreflightResult:
    """Check that 'setup --cluster' found the cluster in order within the last 24 hours. Asks no cluster.

    An error (precondition_failed, exit code 1) names the state: absent, stale or other_configuration.
    """
    cluster = get_cluster(request.cluster, world.env, world.home)
    marker = read_marker(world, request.cluster)
    state = freshness(marker, configuration_hash(cluster), world.now())
    path = marker_path(world, request.cluster)
    age = int(world.now() - marker.checked_at) if marker else 0
    if marker is None or state != "fresh":
        why = _OF_THE_FUTURE if state == "stale" and age < 0 else _WHY[state]
        raise PreconditionFailed(
            why.format(name=request.cluster, age=age_text(age)),
            field="cluster",
            remediation=f"Run 'hpc-agent setup --cluster {request.cluster}': it logs in, and says what is not in order.",
            details={
                "state": state,
                "cluster": request.cluster,
                "marker": str(path),
                "age_sec": age if marker else None,
            },
        )
    return CheckPreflightResult(
        cluster=request.cluster,
        state=state,
        all_ok=True,
        checked_at=marker.checked_at,
        age_sec=age,
        left_sec=FRESH_SEC - age,
        marker=str(path),
        versions=marker.versions,
        checks={check["name"]: check["state"] for check in marker.checks},
        warnings=[check for check in marker.checks if check["state"] == "warn"],
    )


def age_text(seconds: int) -> str:
    """Return ``5 min``, ``3 h`` or ``2 days``."""
    if seconds < 2 * 3600:
        return f"{max(0, seconds) // 60} min"
    return f"{seconds // 3600} h" if seconds < 48 * 3600 else f"{seconds // 86400} days"
