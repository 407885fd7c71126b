"""clusters.yaml: the address and the limits of each cluster. The user's file is merged over the packaged one."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.errors import ClusterUnknown, ConfigInvalid, SpecInvalid
from hpc_agent.infra.cluster_checks import complaints_about, expand, refuse_placeholders, unknown_key
from hpc_agent.infra.constraints import ConfigKey, constraint_keys, parse_constraints, parse_duration

PACKAGED = Path(__file__).resolve().parents[1] / "config" / "clusters.yaml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Count = Annotated[int, Meta(ge=1)]


class GpuQueue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The GPU of a queue: its name as the site spells it, and its speed relative to the others."""

    name: str
    perf: Annotated[float, Meta(gt=0)] = 1.0


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster, checked. Memory is in MiB, time in seconds; ``constraints`` and ``max_walltime_sec`` agree."""

    name: str
    scheduler: Annotated[
        str, Meta(description="slurm, sge, local, or another package's hpc_agent.backends entry point")
    ]
    scratch: Annotated[str, Meta(description="folder on the cluster below which runs are kept, in <scratch>/hpc-agent")]
    host: Annotated[str | None, Meta(description="ssh host or alias; without one, commands run on this machine")] = None
    user: Annotated[str | None, Meta(description="login name; by default what ~/.ssh/config says")] = None
    ssh_config: Annotated[str | None, Meta(description="file for ssh -F, instead of ~/.ssh/config")] = None
    shell_init: Annotated[
        str | None,
        Meta(description="shell file on the cluster, sourced before every remote command (not rsync) and in every job"),
    ] = None
    python: Annotated[str, Meta(description="Python 3.6 or newer on the login and compute nodes")] = "python3"
    modules: Annotated[list[str], Meta(description="environment modules that a job loads")] = []
    conda_source: Annotated[str | None, Meta(description="conda.sh that a job sources")] = None
    conda_envs: Annotated[list[str], Meta(description="conda environments; a job activates the first by default")] = []
    constraints: Annotated[dict[str, Any], Meta(description="limits that a submission plan keeps to")] = {}
    nfs_data_dir: Annotated[str | None, Meta(description="folder copied to the node's own disk once per node")] = None
    gpu_types: Annotated[list[str], Meta(description="GPUs that may be asked for; empty: not checked")] = []
    gpu_queues: Annotated[
        dict[str, GpuQueue],
        Meta(description="queue -> {name: GPU, perf: relative speed}; the fastest that fits is asked for"),
    ] = {}
    excluded_gpu_queue_prefixes: Annotated[list[str], Meta(description="GPU queues never to ask for")] = []
    account: Annotated[str | None, Meta(description="account (SLURM) or project (Grid Engine)")] = None
    default_partition: Annotated[str | None, Meta(description="partition or queue when the request names none")] = None
    gpu_constraint: Annotated[str | None, Meta(description="node feature that GPU jobs ask for")] = None
    cold_start_mem_buffer: Annotated[
        float, Meta(ge=0, description="share added to default_mem_mb while there is no history")
    ] = 0.15
    walltime_arbitrage: Annotated[
        bool, Meta(description="ask for a little less than the limit, so that the job fits back-fill gaps")
    ] = True
    auto_daisy_chain: Annotated[
        bool | Literal["detect"] | None,
        Meta(
            description="walltime beyond the limit: true submits a chain of segments ahead, detect adds a segment when a task "
            "has left a checkpoint, otherwise it is refused"
        ),
    ] = None
    max_walltime_sec: Annotated[
        Count | None, Meta(description="walltime limit; the smaller of this and constraints.max_walltime holds")
    ] = None
    default_walltime_sec: Annotated[Count | None, Meta(description="walltime when the request names none")] = None
    default_mem_mb: Annotated[Count | None, Meta(description="memory of an element when the request names none")] = None
    max_node_mem_mb: Annotated[Count | None, Meta(description="memory of the largest node")] = None
    parallel_environment: Annotated[str, Meta(description="Grid Engine: environment for several cores")] = "shared"
    sge_memory_resource: Annotated[str, Meta(description="Grid Engine: memory resource, per slot")] = "h_data"
    sge_gpu_request: Annotated[
        str, Meta(description="Grid Engine: what -l asks for a GPU; {count} and {type} are filled in")
    ] = "cuda={count}"
    local_cores: Annotated[Count | None, Meta(description="local scheduler: cores to use; default all")] = None
    local_memory_mb: Annotated[Count | None, Meta(description="local scheduler: memory to use")] = None
    min_poll_sec: Annotated[int, Meta(ge=1, description="seconds between two looks of monitor-flow, at least")] = 30

    @property
    def ssh_target(self) -> str | None:
        """``user@host``, ``host``, or None when commands run on this machine."""
        return f"{self.user}@{self.host}" if self.host and self.user else self.host

    def scratch_path(self, home: Path) -> str:
        """The scratch folder, absolute and without a slash at the end."""
        return expand(self.scratch, home)

    def ssh_config_path(self, home: Path) -> str | None:
        return expand(self.ssh_config, home) if self.ssh_config else None


class RawCluster(msgspec.Struct, frozen=True):
    """A cluster as the files have it, unchecked. ``source`` has the file of each key, ``broken`` an error of the whole entry."""

    name: str
    values: dict[str, Any]
    source: dict[str, Path]
    user_file: Path
    broken: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """An error in one key of one cluster."""

    key: str
    file: Path
    sentence: str


def load_clusters_config(path: Path | None = None, env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return every cluster's keys, unchecked: the packaged file with ``path`` (default: the user's own file) merged over it.

    Raises ConfigInvalid when a file cannot be read or is no mapping.
    """
    env = os.environ if env is None else env
    raws = _merged(Path(path), required=True) if path else load_clusters(env, Path(env.get("HOME") or Path.home()))
    return {name: raw.values for name, raw in raws.items()}


def load_clusters(env: Mapping[str, str], home: Path) -> dict[str, RawCluster]:
    """Return every cluster, unchecked, with the file of each key.

    The user's file is ``HPC_CLUSTERS_CONFIG``, which must exist, else ``~/.hpc-agent/clusters.yaml``, which may be
    missing. Raises ConfigInvalid when a file cannot be read or is no mapping.
    """
    override = env.get("HPC_CLUSTERS_CONFIG")
    user_file = Path(expand(override, home)) if override else home / ".hpc-agent" / "clusters.yaml"
    return _merged(user_file, required=bool(override))


def _merged(user_file: Path, *, required: bool) -> dict[str, RawCluster]:
    from hpc_agent.infra.yaml_file import read_mapping

    layers = [(PACKAGED, read_mapping(PACKAGED))]
    if required or user_file.is_file():
        layers.append((user_file, read_mapping(user_file)))
    raws: dict[str, RawCluster] = {}
    for file, document in layers:
        for name, values in document.items():
            broken = None
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                advice = "use letters, digits, '.', '_' and '-' (quoted if YAML asks)"
                broken = f"{file}: {name!r} cannot be a cluster's name; {advice}"
            elif not isinstance(values, dict):
                broken = f"{file}: cluster '{name}': must be a mapping of keys, not {type(values).__name__} {values!r}"
            below = raws.get(str(name))
            fresh = {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}
            merged = {**below.values, **fresh} if below else fresh
            source = {**(below.source if below else {}), **dict.fromkeys(fresh, file)}
            raws[str(name)] = RawCluster(str(name), merged, source, user_file, broken)
    return raws


def get_cluster(name: str, env: Mapping[str, str], home: Path) -> Cluster:
    """Return the cluster called ``name``, checked.

    Raises ClusterUnknown with the names there are, ConfigInvalid with the file, the cluster and the key.
    """
    raw = _named(name, load_clusters(env, home))
    cluster, problems = _checked(raw, home)
    if cluster is not None:
        return cluster
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    where = f"Correct {first.file}" if first.file != PACKAGED else f"Set it under '{raw.name}:' in {raw.user_file}"
    sentences = [problem.sentence for problem in problems]
    raise ConfigInvalid(
        first.sentence + more,
        field=f"{raw.name}.{first.key}" if first.key else raw.name,
        remediation=f"{where}, then run 'hpc-agent clusters-describe {raw.name}'.",
        details={"file": str(first.file), "cluster": raw.name, "key": first.key, "problems": sentences},
    )


def cluster_problems(
    name: str, env: Mapping[str, str], home: Path, clusters: Mapping[str, RawCluster] | None = None
) -> list[str]:
    """Return the problems of the cluster called ``name``, a sentence each; none when it is ready.

    The files are read only when ``clusters`` is not given. Raises ClusterUnknown, and ConfigInvalid for an unreadable file.
    """
    raw = _named(name, load_clusters(env, home) if clusters is None else clusters)
    return [problem.sentence for problem in _checked(raw, home)[1]]


def _checked(raw: RawCluster, home: Path) -> tuple[Cluster | None, list[Problem]]:
    if raw.broken:
        return None, [Problem("", raw.user_file, raw.broken)]
    fields = {field.name: field.type for field in msgspec.structs.fields(Cluster) if field.name != "name"}
    values: dict[str, Any] = {}
    complaints: list[tuple[str, str]] = []
    for key, value in raw.values.items():
        try:
            if key not in fields:
                complaints.append((key, unknown_key(key, list(fields))))
            elif value is not None:
                values[key] = _converted(key, value, fields[key])
        except (ValueError, SpecInvalid) as error:
            complaints.append((key, str(error)))
        except RecursionError:
            complaints.append((key, "refers to itself"))
    complaints += complaints_about(values, home)
    complaints += [(key, "is missing") for key in ("scheduler", "scratch") if raw.values.get(key) is None]
    if complaints:
        places = [(key, raw.source.get(key, raw.user_file), complaint) for key, complaint in complaints]
        return None, [Problem(key, at, f"{at}: cluster '{raw.name}': {key}: {text}") for key, at, text in places]
    return _in_force(raw, values), []


def _converted(key: str, value: Any, kind: Any) -> Any:
    """Return the value in its type. Raises ValueError or SpecInvalid; placeholders are looked for first."""
    refuse_placeholders(value)
    if key.endswith("_walltime_sec"):
        return parse_duration(value, key)
    if key == "constraints":
        return msgspec.to_builtins(parse_constraints(value))
    return msgspec.convert(value, kind)


def _in_force(raw: RawCluster, values: dict[str, Any]) -> Cluster:
    """Return the cluster, with one walltime limit from both keys, and ssh_config relative to the file that names it."""
    limits = values.setdefault("constraints", msgspec.to_builtins(parse_constraints()))
    default = limits["max_walltime_sec"]
    stated = [default] if {"max_walltime", "max_walltime_sec"} & set(raw.values.get("constraints") or {}) else []
    stated += [values["max_walltime_sec"]] if "max_walltime_sec" in values else []
    values["max_walltime_sec"] = limits["max_walltime_sec"] = min(stated, default=default)
    ssh_config = values.get("ssh_config")
    if ssh_config and not ssh_config.startswith(("/", "~")):
        values["ssh_config"] = str(raw.source["ssh_config"].resolve().parent / ssh_config)
    return Cluster(name=raw.name, **values)


def _named(name: str, raws: Mapping[str, RawCluster]) -> RawCluster:
    if name in raws:
        return raws[name]
    close = difflib.get_close_matches(name, raws, n=3)
    hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    raise ClusterUnknown(
        f"there is no cluster '{name}'{hint} (configured: {', '.join(sorted(raws))})",
        field="cluster",
        details={"known": sorted(raws), "closest": close},
    )


def cluster_keys() -> list[ConfigKey]:
    """Return every key of clusters.yaml."""
    keys = []
    for field in msgspec.structs.fields(Cluster)[1:]:  # the name is the key of the mapping
        schema = msgspec.json.schema(field.type)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        keys.append(
            ConfigKey(
                key=field.name,
                type="duration" if field.name.endswith("_walltime_sec") else _type_text(schema),
                default=None if field.required else default,
                required=field.required,
                description=schema["description"],
            )
        )
    return keys + constraint_keys()


def _type_text(schema: dict[str, Any]) -> str:
    words = []
    for option in schema.get("anyOf", [schema]):
        kind = option.get("type")
        if "enum" in option:
            words += [repr(value) for value in option["enum"]]
        elif kind != "null":
            words.append(
                {"array": f"list of {option.get('items', {}).get('type')}", "object": "mapping"}.get(kind, kind)
            )
    return " or ".join(words)
