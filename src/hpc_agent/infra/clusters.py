"""clusters.yaml: the address and the limits of each cluster. The user's file is merged over the packaged one."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.errors import ClusterUnknown, ConfigInvalid, SpecInvalid
from hpc_agent.infra.cluster_checks import complaints_about, expand, refuse_placeholders
from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints, parse_duration

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
    scheduler: Annotated[str, Meta(description="slurm, sge, local, or a package's entry point hpc_agent.backends")]
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
    nfs_data_dir: Annotated[
        str | None, Meta(description="folder copied to each node's own disk, anew once it has changed")
    ] = None
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
    max_node_cpus: Annotated[Count | None, Meta(description="cores of the largest node")] = None
    mem_per_cpu: Annotated[
        bool, Meta(description="SLURM: ask for an element's memory as --mem-per-cpu, for a site that refuses --mem")
    ] = False
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

    @property
    def cores(self) -> int | None:
        """Return the cores that the local scheduler gives; None where they are not known here."""
        if self.scheduler != "local":
            return None
        return self.local_cores or (os.cpu_count() if self.ssh_target is None else None)

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


def load_clusters_config(path: Path | None = None, env: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return every cluster's keys, unchecked, as load_clusters does. ``path`` takes the place of the user's own file."""
    env = os.environ if env is None else env
    raws = load_clusters(env, Path(env.get("HOME") or Path.home()), Path(path) if path else None)
    return {name: raw.values for name, raw in raws.items()}


def load_clusters(env: Mapping[str, str], home: Path, path: Path | None = None) -> dict[str, RawCluster]:
    """Return every cluster, unchecked, with the file of each key.

    The user's file is ``path`` or ``HPC_CLUSTERS_CONFIG``, which must exist, else ``~/.hpc-agent/clusters.yaml``, which
    may be missing. Raises ConfigInvalid when a file cannot be read or is no mapping.
    """
    from hpc_agent.infra.yaml_file import read_mapping

    override = env.get("HPC_CLUSTERS_CONFIG")
    named = path or (Path(expand(override, home)) if override else None)
    user_file = named or home / ".hpc-agent" / "clusters.yaml"
    raws: dict[str, RawCluster] = {}
    for file in [PACKAGED, user_file] if named or os.path.lexists(user_file) else [PACKAGED]:
        for key, values in read_mapping(file).items():
            name, broken = str(key), None
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                advice = "use letters, digits, '.', '_' and '-' (quoted if YAML asks)"
                broken = f"{file}: {key!r} cannot be a cluster's name; {advice}"
            elif not isinstance(values, dict):
                broken = f"{file}: cluster '{name}': must be a mapping of keys, not {type(values).__name__} {values!r}"
            below = raws.get(name, RawCluster(name, {}, {}, user_file))
            fresh = {str(field): value for field, value in values.items()} if isinstance(values, dict) else {}
            source = {**below.source, **dict.fromkeys(fresh, file)}
            raws[name] = RawCluster(name, {**below.values, **fresh}, source, user_file, broken)
    return raws


def get_cluster(
    name: str, env: Mapping[str, str], home: Path, clusters: Mapping[str, RawCluster] | None = None
) -> Cluster:
    """Return the cluster called ``name``, checked. The files are read only when ``clusters`` is not given.

    Raises ClusterUnknown with the names there are, ConfigInvalid with the file, the cluster and the key.
    """
    clusters = load_clusters(env, home) if clusters is None else clusters
    if name not in clusters:
        close = difflib.get_close_matches(name, clusters, n=3)
        hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
        raise ClusterUnknown(
            f"there is no cluster '{name}'{hint} (configured: {', '.join(sorted(clusters))})",
            field="cluster",
            details={"known": sorted(clusters), "closest": close},
        )
    raw = clusters[name]
    values, complaints = ({}, [("", raw.broken)]) if raw.broken else _converted(raw, home)
    if not complaints:
        return _in_force(raw, values)
    files = {key: raw.source.get(key, raw.user_file) for key, _ in complaints}
    told = {key: "the packaged clusters.yaml" if file == PACKAGED else file for key, file in files.items()}
    sentences = [f"{told[key]}: cluster '{name}': {key}: {text}" if key else text for key, text in complaints]
    first, _ = complaints[0]
    more = f" (and {len(sentences) - 1} more)" if len(sentences) > 1 else ""
    where = f"Correct {files[first]}" if files[first] != PACKAGED else f"Set it under '{name}:' in {raw.user_file}"
    raise ConfigInvalid(
        sentences[0] + more,
        field=f"{name}.{first}" if first else name,
        remediation=f"{where}, then run 'hpc-agent clusters-describe {name}'.",
        details={"file": str(files[first]), "cluster": name, "key": first, "problems": sentences},
    )


def cluster_problems(
    name: str, env: Mapping[str, str], home: Path, clusters: Mapping[str, RawCluster] | None = None
) -> list[str]:
    """Return a cluster's problems, a sentence each. Raises ClusterUnknown, and ConfigInvalid for an unreadable file."""
    clusters = load_clusters(env, home) if clusters is None else clusters
    try:
        get_cluster(name, env, home, clusters)
    except ConfigInvalid as error:
        return list(error.details["problems"])
    return []


def _converted(raw: RawCluster, home: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values in their types, and a complaint about each key that cannot be used."""
    values: dict[str, Any] = {}
    complaints: list[tuple[str, str]] = []
    for key, value in raw.values.items():
        try:
            if key not in _types():
                close = difflib.get_close_matches(key, _types(), n=1)
                raise ValueError("is not a known key" + (f"; did you mean '{close[0]}'?" if close else ""))
            if value is not None:
                refuse_placeholders(value)
                values[key] = _value(key, value)
        except (ValueError, SpecInvalid) as error:
            complaints.append((key, str(error)))
        except RecursionError:
            complaints.append((key, "refers to itself"))
    complaints += complaints_about(values, home)
    complaints += [(key, "is missing") for key in ("scheduler", "scratch") if raw.values.get(key) is None]
    return values, complaints


@functools.cache
def _types() -> dict[str, Any]:
    """Return the type of each key. The name of a cluster is the key of the mapping."""
    return {field.name: field.type for field in msgspec.structs.fields(Cluster)[1:]}


def _value(key: str, value: Any) -> Any:
    """Return a value in its type. Raises ValueError or SpecInvalid."""
    if key.endswith("_walltime_sec"):
        return parse_duration(value, key)
    if key == "constraints":
        return msgspec.to_builtins(parse_constraints(value))
    return msgspec.convert(value, _types()[key])


def _in_force(raw: RawCluster, values: dict[str, Any]) -> Cluster:
    """Return the cluster, with one walltime limit from both keys, and ssh_config relative to the file that names it."""
    limits = values.setdefault("constraints", msgspec.to_builtins(parse_constraints()))
    limit = values.get("max_walltime_sec", limits["max_walltime_sec"])
    if not {"max_walltime", "max_walltime_sec"}.isdisjoint(raw.values.get("constraints") or {}):
        limit = min(limit, limits["max_walltime_sec"])
    values["max_walltime_sec"] = limits["max_walltime_sec"] = limit
    ssh_config = values.get("ssh_config")
    if ssh_config and not ssh_config.startswith(("/", "~")):
        values["ssh_config"] = str(raw.source["ssh_config"].resolve().parent / ssh_config)
    return Cluster(name=raw.name, **values)


class ConfigKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of clusters.yaml as the reference page and ``capabilities`` show it."""

    key: str
    type: str
    default: Any
    required: bool
    description: str


def cluster_keys() -> list[ConfigKey]:
    """Return every key of clusters.yaml."""
    keys = [_key(field.name, field) for field in msgspec.structs.fields(Cluster)[1:]]
    limits = msgspec.structs.fields(ClusterConstraints)
    return keys + [_key(f"constraints.{field.name.removesuffix('_sec')}", field) for field in limits]


def _key(key: str, field: msgspec.structs.FieldInfo) -> ConfigKey:
    schema = msgspec.json.schema(field.type)
    words = []
    for option in schema.get("anyOf", [schema]):
        names = {"array": f"list of {option.get('items', {}).get('type')}", "object": "mapping"}
        if "enum" in option:
            words += [repr(value) for value in option["enum"]]
        elif option["type"] != "null":
            words.append(names.get(option["type"], option["type"]))
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return ConfigKey(
        key=key,
        type="duration" if field.name.endswith(("_walltime_sec", "_spin_up_sec")) else " or ".join(words),
        default=None if field.required else default,
        required=field.required,
        description=schema["description"],
    )
