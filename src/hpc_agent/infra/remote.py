"""Requests to the node side, one round trip each, and the runtime that is deployed there."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import re
import secrets
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc_agent.errors import BY_CODE, HpcError, RemoteCommandFailed, RunNotFound, SchemaIncompat, StorageFull
from hpc_agent.infra.backends import RUNTIME_TEMPLATES, Backend, get_backend
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.ssh import SshTransport
from hpc_agent.infra.transport import Completed, LocalTransport
from hpc_agent.node.shared.errors import PROTOCOL
from hpc_agent.world import World, journal_root

PACKAGE = Path(__file__).resolve().parents[1]
RUNTIME = PACKAGE / "node"
# Modules that executors may import on the cluster. They precede an installed hpc-agent and hide none of its other modules.
KIT_PACKAGES = ("hpc_agent", *(f"hpc_agent/{name}" for name in ("models", "models/mapreduce", "node", "node/shared")))
KIT_MODULES = (
    "models/mapreduce/metrics_io.py",
    *(f"node/shared/{name}.py" for name in ("errors", "files", "moments", "run_folder", "rungs")),
)
KIT_INIT = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"
# What ``hpc_agent`` itself has of the kit, here and there.
KIT_NAMES = "from hpc_agent.experiment_kit import main, read_kw_env, register_run, write_metrics\n"
LAUNCHER = "_hpc_dispatch.py"
SITE_KEYS = (
    "mem_per_cpu", "parallel_environment", "sge_memory_resource", "sge_gpu_request", "local_cores", "local_memory_mb",
)  # fmt: skip


@functools.cache
def kit_files() -> dict[str, str]:
    """Return the modules of hpc-agent that an executor may import: relative path -> text."""
    paths = [*sorted((PACKAGE / "experiment_kit").glob("*.py")), *(PACKAGE / name for name in KIT_MODULES)]
    files = {f"{name}/__init__.py": KIT_INIT for name in KIT_PACKAGES}
    files["hpc_agent/__init__.py"] += KIT_NAMES
    return files | {f"hpc_agent/{path.relative_to(PACKAGE).as_posix()}": _text(path) for path in paths}


@functools.cache
def runtime_files(backend: Backend) -> dict[str, str]:
    """Return the files that are deployed into ``.hpc/``: relative path -> text."""
    files = {LAUNCHER: _text(RUNTIME / "launcher.py")}
    for path in sorted(RUNTIME.rglob("*.py")):
        if path.name not in ("launcher.py", "bootstrap.py", "from_memory.py"):
            files[f"_hpc_runtime/{path.relative_to(RUNTIME).as_posix()}"] = _text(path)
    files |= {f"_hpc_kit/{name}": text for name, text in kit_files().items()}
    for path in [*sorted(RUNTIME_TEMPLATES.glob("*.sh")), *sorted(backend.templates.glob("*_array.*"))]:
        files[f"templates/{path.name}"] = _text(path)
    if backend.adapter:
        files["_hpc_backend.py"] = _text(backend.adapter)
    return files


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def runtime_sha(backend: Backend) -> str:
    return hashlib.sha256(json.dumps(runtime_files(backend), sort_keys=True).encode()).hexdigest()[:16]


class Node:
    """The node side of one repo on one cluster."""

    def __init__(self, cluster: Cluster, world: World, remote_name: str, root: str | None = None) -> None:
        self.cluster = cluster
        self.backend = get_backend(cluster.scheduler)
        self.scratch = cluster.scratch_path(world.home)
        self.root = root or f"{self.scratch}/hpc-agent/{remote_name}"
        self.transport = make_transport(cluster, world.env, world.home)
        place = f"{cluster.ssh_target}\0{cluster.ssh_config_path(world.home)}\0{self.root}"
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        self._marker = journal_root(world.env, world.home) / "hosts" / f"{name}.runtime"
        self._timeout = float(world.env.get("HPC_SSH_TIMEOUT_SEC") or 120)
        self._push_timeout = float(world.env.get("HPC_RSYNC_TIMEOUT_SEC") or 1800)

    @property
    def python(self) -> str:
        """Return the interpreter on the cluster; this one where everything runs on this machine."""
        everything_here = self.cluster.ssh_target is None and self.cluster.scheduler == "local"
        return sys.executable if everything_here and self.cluster.python == "python3" else self.cluster.python

    @property
    def site(self) -> dict[str, Any]:
        """Return the settings of the cluster that its scheduler adapter reads."""
        settings = {key: getattr(self.cluster, key) for key in SITE_KEYS}
        return {**settings, "local_state": f"{self.scratch}/hpc-agent/.local-scheduler"}

    def bootstrap(self, verb: str, request: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a request to this version's runtime, which is put in place first. Returns the answer."""
        sha = runtime_sha(self.backend)
        header: dict[str, Any] = {"root": self.root, "sha": sha}
        if self._deployed() == sha:  # a quarter of a megabyte that need not travel again
            try:
                return self._bootstrap(header, verb, request, timeout)
            except HpcError as error:
                if error.details.get("runtime") != "missing":
                    raise
        answer = self._bootstrap({**header, "files": runtime_files(self.backend)}, verb, request, timeout)
        with contextlib.suppress(OSError):  # remembered to save time only
            self._marker.parent.mkdir(parents=True, exist_ok=True)
            self._marker.write_text(sha, encoding="ascii")
        return answer

    def _bootstrap(
        self, header: dict[str, Any], verb: str, request: dict[str, Any], timeout: float | None
    ) -> dict[str, Any]:
        source = (RUNTIME / "bootstrap.py").read_text(encoding="utf-8")
        # One word: a login shell that reads the request in place of Python must find no command in it.
        stdin = (
            base64.b64encode(zlib.compress(json.dumps(header).encode() + b"\n" + json.dumps(request).encode())) + b"\n"
        )
        return self._ask([self.python, "-c", source], verb, stdin, timeout)

    def _deployed(self) -> str:
        """Return the name of the runtime that was put in place last, as far as this machine knows."""
        with contextlib.suppress(OSError, ValueError):
            return self._marker.read_text(encoding="ascii")
        return ""

    def ask(self, verb: str, run_id: str, request: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Send a request to the run's own frozen runtime. Returns the answer. Raises RunNotFound when the folder is gone.

        ``timeout`` begins after the ``wait_sec`` of the request.
        """
        document = {"root": self.root, "run_id": run_id, "site": self.site, **request}
        launcher = f"{self.root}/runs/{run_id}/work/.hpc/{LAUNCHER}"
        limit = (timeout or self._timeout) + float(request.get("wait_sec") or 0.0)
        return self._ask([self.python, launcher], verb, json.dumps(document).encode(), limit)

    def push(self, source: Path, files: list[str], destination: str, with_shared: bool) -> None:
        """Copy files of the repo; ``with_shared``: those that are the same in the folder of shared files stay there."""
        already = f"{self.root}/shared" if with_shared else None
        self.transport.push(source, files, destination, already, self._push_timeout)

    def pull(self, source: str, files: list[str], destination: Path) -> None:
        """Copy files of the folder ``source`` on the cluster below ``destination``, which is made."""
        destination.mkdir(parents=True, exist_ok=True)
        self.transport.pull(source, files, destination, self._push_timeout)

    def _ask(self, program: list[str], verb: str, stdin: bytes, timeout: float | None) -> dict[str, Any]:
        nonce = secrets.token_hex(8)
        done = self.transport.run([*program, verb, nonce], stdin, timeout or self._timeout)
        return unframe(done, nonce, self.cluster.name)


def root_of(remote_path: str) -> str:
    """Return the repo's folder on the cluster from a run's, which is ``<root>/runs/<run_id>``."""
    return remote_path.rpartition("/runs/")[0]


def make_transport(cluster: Cluster, env: Mapping[str, str], home: Path) -> LocalTransport | SshTransport:
    if cluster.ssh_target is None:
        return LocalTransport(env, cluster.shell_init)
    hosts = journal_root(env, home) / "hosts"
    return SshTransport(cluster.ssh_target, env, cluster.ssh_config_path(home), cluster.shell_init, hosts)


def unframe(done: Completed, nonce: str, cluster: str) -> dict[str, Any]:
    """Return the answer between the sentinels. Raises the error in the answer, or one that explains its absence."""
    text = done.stdout.decode(errors="replace")
    _, begun, rest = text.partition(f"HPC-AGENT-BEGIN {nonce}\n")
    body, ended, _ = rest.partition(f"\nHPC-AGENT-END {nonce}")
    if not begun or not ended:
        raise _no_answer(done, cluster)
    document = json.loads(body)
    if "z" in document:
        document = json.loads(zlib.decompress(base64.b64decode(document["z"])))
    return answer_in(document, cluster)


def answer_in(document: dict[str, Any], cluster: str) -> dict[str, Any]:
    """Return the data in an answer of the node side. Raises the error in it."""
    if document["protocol"] != PROTOCOL:
        raise SchemaIncompat(
            f"the run's runtime on '{cluster}' uses protocol {document['protocol']}, this hpc-agent protocol {PROTOCOL}",
            remediation="Install the hpc-agent that submitted the run (the sidecar names it); check with 'hpc-agent --version'.",
        )
    if document["ok"]:
        return document["data"]  # type: ignore[no-any-return]
    kind = BY_CODE.get(document["code"], RemoteCommandFailed)
    raise kind(f"{cluster}: {document['message']}", remediation=document["remediation"], details=document["details"])


def _no_answer(done: Completed, cluster: str) -> HpcError:
    tail = done.stderr_tail
    details = {"exit_code": done.code, "stderr_tail": tail, "stdout_tail": done.stdout[-500:].decode(errors="replace")}
    kind: type[HpcError] = RemoteCommandFailed
    message, remedy = f"'{cluster}' gave no answer (exit code {done.code})", None
    if full := re.search(r".*(?:No space left on device|Disk quota exceeded).*", tail):
        kind, message = StorageFull, f"{cluster}: {full.group(0).strip()}"
        remedy = "Look there with 'quota -s', 'df -h' and 'df -i' for that path, and free some; "
        remedy += f"or set 'scratch' of '{cluster}' in clusters.yaml to a disk with room; "
        remedy += "then run the same 'hpc-agent' command again."
    elif unopened := re.search(rf".*can't open file .*{LAUNCHER}.*", tail):
        if "[Errno 2]" in unopened.group(0):
            kind, message = RunNotFound, f"the run's folder is not on '{cluster}' any more"
            remedy = "Run 'hpc-agent submit --rerun' to run it anew."
        else:  # a file system that is away for a moment
            message = f"'{cluster}' cannot read the run's folder: {unopened.group(0).strip()}"
    elif re.search(r"JSONDecodeError|zlib\.error|binascii\.Error", tail):
        message = f"the request did not arrive on '{cluster}': a start-up file of the login shell reads standard input"
        remedy = "Let the start-up files there read (read, cat, ssh without -n) in interactive shells only; "
        remedy += "then run the same 'hpc-agent' command again."
    elif done.code in (126, 127):
        message = f"'{cluster}' cannot start its Python"
        remedy = f"Set 'python' (or 'shell_init') of '{cluster}' in your clusters.yaml to a Python 3.6 or newer."
    return kind(message, details=details, remediation=remedy)


def deploy_runtime(cluster: Cluster, remote_path: str, env: Mapping[str, str], home: Path) -> list[str]:
    """Write the dispatcher and its runtime into ``<remote_path>/.hpc``, for library use. Returns the file names."""
    files = runtime_files(get_backend(cluster.scheduler))
    source = (
        "import json,os,sys\n"
        "d=json.load(sys.stdin)\n"
        "for n,t in d['files'].items():\n"
        "    p=os.path.join(d['path'],'.hpc',*n.split('/'))\n"
        "    os.makedirs(os.path.dirname(p),exist_ok=True)\n"
        "    open(p+'.tmp','w',encoding='utf-8').write(t)\n"
        "    os.replace(p+'.tmp',p)\n"
    )
    stdin = json.dumps({"path": remote_path, "files": files}).encode()
    done = make_transport(cluster, env, home).run([cluster.python, "-c", source], stdin, 120.0)
    if done.code != 0:
        raise _no_answer(done, cluster.name)
    return sorted(files)
