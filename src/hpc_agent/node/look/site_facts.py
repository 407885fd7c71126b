"""What the cluster offers right now: partitions or queues, and the limits that hold for this user. One answer, few commands."""

import os
import pwd
from typing import Any, Callable, Dict, List, Optional

from .. import schedulers
from ..schedulers.site_parsers import (
    Partition,
    parse_config,
    parse_gpus_used,
    parse_host_memory,
    parse_queue_settings,
    parse_queues,
    parse_sinfo,
    slurm_limits,
)
from ..shared.commands import run_command
from ..shared.errors import NodeError

TIMEOUT_SEC = 30.0
SINFO = ["sinfo", "-h", "-o", "%P|%a|%l|%L|%D|%C|%m|%G|%p"]
GPUS = ["sinfo", "-h", "-N", "-O", "Partition:60,Gres:120,GresUsed:120"]
QOS = ["sacctmgr", "-nP", "show", "qos", "format=Name,MaxSubmitPU,MaxJobsPU"]


class Asking(object):
    """Runs the tools; one that fails is told in ``errors``, and the rest still answers."""

    def __init__(self) -> None:
        self.errors: List[Dict[str, str]] = []

    def __call__(self, *argv: str) -> str:
        try:
            code, out, err = run_command(list(argv), TIMEOUT_SEC, env=schedulers.base.clean_environment())
        except NodeError as error:
            self.errors.append({"code": argv[0] + "_failed", "detail": error.message[:300]})
            return ""
        if code != 0:
            self.errors.append({"code": argv[0] + "_failed", "detail": (err or out).strip()[:300]})
            return ""
        return out


def site(request: Dict[str, Any]) -> Dict[str, Any]:
    """``scheduler`` and ``site``: {partitions, limits, user, errors}; see infra/partitions.py for the fields."""
    ask = Asking()
    name = str(request["scheduler"])
    readers: Dict[str, Callable[[Asking], Dict[str, Any]]] = {"slurm": _slurm, "sge": _grid_engine, "local": _local}
    facts = readers[name](ask) if name in readers else {"partitions": [], "limits": []}
    facts["user"] = {"name": _user(), "submitted": _submitted(request, ask)}
    return dict(facts, scheduler=name, errors=ask.errors)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _submitted(request: Dict[str, Any], ask: Asking) -> Optional[int]:
    try:
        return schedulers.load(str(request["scheduler"]), request.get("site") or {}).submitted_elements()
    except NodeError as error:
        ask.errors.append({"code": "queue_failed", "detail": error.message[:300]})
        return None


def _slurm(ask: Asking) -> Dict[str, Any]:
    partitions = parse_sinfo(ask(*SINFO))
    used = parse_gpus_used(ask(*GPUS)) if any(p["gpus"] for p in partitions.values()) else {}
    waiting = ask("squeue", "-h", "-t", "PD", "-o", "%P").split()
    for name, facts in partitions.items():
        facts["pending_jobs"] = sum(name in words.split(",") for words in waiting)
        for gpu in facts["gpus"]:
            gpu["idle"] = max(0, gpu["total"] - used.get((name, gpu["type"]), 0))
    mine = ask("sacctmgr", "-nP", "show", "assoc", "user=" + _user(), "format=Account,QOS,MaxSubmit,MaxJobs")
    limits = slurm_limits(ask("scontrol", "show", "config"), ask(*QOS), mine)
    return {"partitions": list(partitions.values()), "limits": limits}


def _grid_engine(ask: Asking) -> Dict[str, Any]:
    queues = parse_queues(ask("qstat", "-g", "c"))
    if queues:
        parse_queue_settings(ask("qconf", "-sq", *queues), queues)
    memory = parse_host_memory(ask("qhost"))
    waiting = ask("qstat", "-u", "*", "-s", "p").splitlines()[2:]
    for facts in queues.values():
        facts["mem_mb"] = memory
        facts["pending_jobs"] = len(waiting)  # a waiting job is in no queue yet
    config = parse_config(ask("qconf", "-sconf", "global"))
    names = {"max_u_jobs": "submitted", "max_aj_tasks": "array_size"}
    limits = [
        {"name": key, "scope": "cluster", "kind": kind, "limit": int(config[key])}
        for key, kind in names.items()
        if config.get(key, "0").isdigit() and int(config[key])
    ]
    return {"partitions": list(queues.values()), "limits": limits}


def _local(_: Asking) -> Dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    free = max(0, int(cores - os.getloadavg()[0]))
    only = Partition("local")
    only.update(state="up", default=True, nodes=1, cpus_total=cores, cpus_idle=free, cpus_node=cores, mem_mb=memory)
    return {"partitions": [only], "limits": []}
