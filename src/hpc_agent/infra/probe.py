"""Look at the login node of a cluster and install nothing there: facts as a shell tells them, and the scheduler's limits."""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from hpc_agent.errors import HpcError
from hpc_agent.infra.backends import RUNTIME_TEMPLATES
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.partitions import SiteFacts
from hpc_agent.infra.remote import RUNTIME, Node, answer_in, make_transport, runtime_files, unframe
from hpc_agent.infra.transport import Completed
from hpc_agent.world import World

# The commands of a scheduler that hpc-agent calls.
TOOLS = {
    "slurm": ("sbatch", "squeue", "sinfo", "scontrol", "sacct", "sacctmgr"),
    "sge": ("qsub", "qstat", "qconf", "qacct", "qhost"),
}
_MARK = "HPC-AGENT-FACT"
_AT_THE_END = "hpc_source_init\nhpc_load_modules\nhpc_activate_conda\n"
_LISTING = (
    "hpc_source_init\nhpc_environment_failed() { :; }\nHPC_MODULES=hpc-agent/none\nhpc_load_modules\n"
    "module -t avail python 2>&1\n"
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the shell there told (a name may have several values), when by the clock here, and what schedulers told."""

    told: Mapping[str, list[str]]
    tools: Sequence[str]  # the scheduler's commands that were looked for
    asked: float
    answered: float
    noise: tuple[str, str] = ("", "")  # of start-up files, on stdout and stderr
    exit_code: int = 0
    stderr: str = ""
    sites: Mapping[str, SiteFacts] = field(default_factory=dict)
    site_error: str = ""

    def get(self, name: str) -> str:
        """Return the first value; an empty text where nothing was told."""
        return next(iter(self.told.get(name, ())), "")

    def all(self, name: str) -> list[str]:
        return list(dict.fromkeys(self.told.get(name, ())))

    def missing_and_found(self) -> tuple[list[str], list[str]]:
        """Return the commands that were looked for: those that the shell there does not find, and those that it does."""
        known = [name.removeprefix("tool.") for name in self.told if name.startswith("tool.")]
        return [tool for tool in self.tools if tool not in known], known


def look(node: Node, world: World, *, anew: bool, timeout: float, find_out: bool = False) -> Facts:
    """Ask the login node about itself, with one command. Raises what ``SshTransport.run`` raises.

    ``anew``: log in, even where a connection is open. ``find_out``: of the cluster only the host is known; look for a
    scheduler, scratch folders and modules too.
    """
    cluster = node.cluster
    env = {**world.env, **({"HPC_NO_SSH_MULTIPLEX": "1"} if anew else {})}
    # Without shell_init: the script reads that file itself, and tells what is wrong with it.
    transport = make_transport(msgspec.structs.replace(cluster, shell_init=None), env, world.home)
    nonce = secrets.token_hex(8)
    schedulers = list(TOOLS) if find_out else [cluster.scheduler]
    words = ["/bin/sh", "-c", _without_comments("probe.sh"), "sh", nonce, *_arguments(node, schedulers, find_out)]
    asked = world.now()
    done = transport.run(words, _request(node, schedulers), timeout)
    sites, error = _sites(done, nonce, cluster.name, schedulers)
    return Facts(
        told=_told(done, nonce),
        tools=tools_of(schedulers),
        asked=asked,
        answered=world.now(),
        noise=(done.noise[0], done.noise[1]),
        exit_code=done.code,
        stderr=done.stderr_tail,
        sites=sites,
        site_error=error,
    )


def tools_of(schedulers: Sequence[str]) -> list[str]:
    return [tool for name in schedulers for tool in TOOLS.get(name, ())]


def _arguments(node: Node, schedulers: list[str], find_out: bool) -> list[str]:
    """Return what ``node/probe.sh`` takes after the nonce."""
    cluster: Cluster = node.cluster
    preamble = (RUNTIME_TEMPLATES / "preamble.sh").read_text(encoding="utf-8")
    listing = preamble.replace(_AT_THE_END, _LISTING) if find_out else ""
    conda = next(iter(cluster.conda_envs), "")
    settings = [" ".join(tools_of(schedulers)), cluster.shell_init or "", node.python, "" if find_out else node.scratch]
    settings += [" ".join(cluster.modules), cluster.conda_source or "", conda, preamble, listing]
    return [*settings, (RUNTIME / "from_memory.py").read_text(encoding="utf-8"), "many"]


def _without_comments(name: str) -> str:
    lines = (RUNTIME / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _request(node: Node, schedulers: list[str]) -> bytes:
    cluster = node.cluster
    placement = {"account": cluster.account, "partition": cluster.default_partition}
    files = {
        name: text
        for name, text in runtime_files(node.backend).items()
        if name.startswith("_hpc_runtime/") or name == "_hpc_backend.py"
    }
    request = {
        "verb": "site",
        "common": {"site": {**node.site, "placement": placement}},
        "requests": [{"scheduler": name} for name in schedulers],
    }
    return base64.b64encode(zlib.compress(json.dumps(files).encode() + b"\n" + json.dumps(request).encode())) + b"\n"


def _told(done: Completed, nonce: str) -> dict[str, list[str]]:
    told: dict[str, list[str]] = defaultdict(list)
    for line in done.stdout.decode(errors="replace").splitlines():
        mark, _, rest = line.partition(f" {nonce} ")
        name, _, value = rest.partition(" ")
        if mark == _MARK:
            told[name].append(value.strip())
    return dict(told)


def _sites(done: Completed, nonce: str, cluster: str, schedulers: list[str]) -> tuple[dict[str, SiteFacts], str]:
    """Return what each scheduler told, and why one did not answer."""
    try:
        answers = unframe(done, nonce, cluster)["answers"]
    except HpcError as error:
        return {}, error.message
    found, problem = {}, ""
    for name, document in zip(schedulers, answers, strict=True):
        try:
            answer = answer_in(document, cluster)
        except HpcError as error:
            problem = error.message
            continue
        answer["submitted"] = answer.pop("user")["submitted"]
        found[name] = msgspec.convert(answer, SiteFacts, strict=False)
    return found, problem
