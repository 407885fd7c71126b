"""``capabilities`` and ``describe``: the catalogue of the verbs, for agents."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hpc_agent.contract.catalogue import catalogue_entry, schema
from hpc_agent.contract.primitive import Request, Result, load_all, primitive
from hpc_agent.errors import EXIT_CODES, SpecInvalid, by_code
from hpc_agent.ops.run.fields import doc
from hpc_agent.world import World


class CapabilitiesRequest(Request):
    """A request without fields."""


class CapabilitiesResult(Result):
    version: str
    schedulers: Annotated[list[str], doc("schedulers that a cluster may name")]
    schemas_dir: Annotated[str, doc("folder of the JSON Schemas of every request, result and the envelope")]
    journal_dir: str
    cluster_yaml_keys: Annotated[list[dict[str, Any]], doc("every key of clusters.yaml")]
    error_codes: Annotated[list[dict[str, Any]], doc("error_code, exit code, retry_safe, meaning, remediation")]
    environment: Annotated[dict[str, str], doc("environment variables of hpc-agent")]
    operations: Annotated[list[dict[str, Any]], doc("the whole catalogue")]


ENVIRONMENT = {
    "HPC_CLUSTERS_CONFIG": "your clusters.yaml, merged over the packaged one",
    "HPC_JOURNAL_DIR": "where runs are remembered [~/.claude/hpc]",
    "HPC_NO_BREAKER": "1: ask a host at once although it has not answered five times in a row",
    "HPC_NO_SSH_MULTIPLEX": "1: no private ControlMaster; your own ~/.ssh/config decides",
    "HPC_PROGRESS": "auto, json or none: what is written to stderr",
    "HPC_RSYNC_TIMEOUT_SEC": "limit of one push [1800]",
    "HPC_SSH_BINARY": "the ssh program [ssh]",
    "HPC_SSH_TIMEOUT_SEC": "limit of one remote command [120]",
    "SSH_AUTH_SOCK": "your ssh agent; must reach this process when keys live in an agent",
}


@primitive(stage="introspect")
def capabilities(request: CapabilitiesRequest, world: World) -> CapabilitiesResult:  # noqa: ARG001
    """Show version, schedulers, configuration keys, error codes and every verb."""
    import hpc_agent
    from hpc_agent.infra.backends import backend_names
    from hpc_agent.infra.clusters import cluster_keys

    return CapabilitiesResult(
        version=hpc_agent.__version__,
        schedulers=backend_names(),
        schemas_dir=str(Path(hpc_agent.__file__).parent / "schemas"),
        journal_dir=str(world.journal_root),
        cluster_yaml_keys=msgspec.to_builtins(cluster_keys()),
        error_codes=[
            {
                "error_code": code,
                "exit_code": EXIT_CODES[error.category],
                "retry_safe": error.retry_safe,
                "meaning": (error.__doc__ or "").strip(),
                "remediation": error.default_remediation,
            }
            for code, error in sorted(by_code().items())
        ],
        environment=ENVIRONMENT,
        operations=[{"name": name, **msgspec.to_builtins(catalogue_entry(p))} for name, p in load_all().items()],
    )


class DescribeRequest(Request):
    name: Annotated[str, doc("a verb or one of its aliases")]


class DescribeResult(Result):
    name: str
    kind: str
    summary: str
    description: str
    entry: Annotated[dict[str, Any], doc("the catalogue row: effects, errors, flags")]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]


@primitive(stage="introspect", positional="name", errors=[SpecInvalid])
def describe(request: DescribeRequest, world: World) -> DescribeResult:  # noqa: ARG001
    """Describe one verb: its purpose, request and result schemas, flags, errors and side effects."""
    names = {name: p for p in load_all().values() for name in (p.name, *p.aliases)}
    found = names.get(request.name)
    if found is None:
        close = difflib.get_close_matches(request.name, names, n=1)
        hint = f"Did you mean '{close[0]}'? " if close else ""
        remediation = hint + "Run 'hpc-agent capabilities' for the list."
        raise SpecInvalid(f"there is no primitive '{request.name}'", field="name", remediation=remediation)
    return DescribeResult(
        name=found.name,
        kind="primitive",
        summary=found.summary,
        description=found.description,
        entry=msgspec.to_builtins(catalogue_entry(found)),
        input_schema=schema(found.request, f"{found.name} input"),
        output_schema=schema(found.result, f"{found.name} output"),
    )
