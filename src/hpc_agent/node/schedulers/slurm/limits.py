"""The limits that hold for a user's jobs on a SLURM cluster, and how much of each is used."""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set

from ..base import Limit, Query, parse_config
from .job_ids import ROW_ID, elements

_ASSOCIATION = ("Account", "QOS", "MaxSubmit", "MaxJobs", "GrpSubmit", "GrpJobs", "DefaultQOS", "ParentName")
_QOS = ("Name", "MaxSubmitPU", "MaxJobsPU", "MaxSubmitPA", "MaxJobsPA", "GrpSubmit", "GrpJobs")
# What SLURM takes where neither the request nor the association names a QOS.
_USUAL_QOS = "normal"
_MOST_GENERATIONS = 8
_PARTITION = re.compile(r"\b(PartitionName|Default|QoS)=(\S+)")

Row = Dict[str, str]


class Queued(NamedTuple):
    """Elements of a job in the queue; None is a column that squeue did not print."""

    elements: int
    user: Optional[str] = None
    account: Optional[str] = None
    qos: Optional[str] = None
    state: Optional[str] = None


class Counted(NamedTuple):
    """A limit, and whose jobs count: None is everybody, every account, every QOS."""

    limit: Limit
    user: Optional[str] = None
    accounts: Optional[Set[str]] = None
    qos: Optional[str] = None


def limits(query: Query, user: str, placement: Dict[str, Any]) -> List[Limit]:
    """Return the limits of the cluster, and those of the account, of its parents and of the QOS of a job.

    ``placement``: the account, the QOS and the partition of the job; the defaults of the site where it names none.
    """
    config = parse_config(query("scontrol", "show", "config"))
    size = config.get("MaxArraySize", "")
    found = [Limit("MaxArraySize", "cluster", "array_size", int(size) - 1)] if size.isdigit() else []
    where = ["cluster=" + config["ClusterName"]] if config.get("ClusterName") else []
    mine = _associations(query, *where, "user=" + user)
    account = (
        placement.get("account") or query("sacctmgr", "-nP", "show", "user", user, "format=DefaultAccount").strip()
    )
    mine = [row for row in mine if row["Account"] == account] or mine
    wanted = {str(placement["qos"])} if placement.get("qos") else set(map(_default_qos, mine))
    wanted.add(_qos_of_partition(query("scontrol", "-o", "show", "partition"), placement.get("partition")))
    stated = [counted for row in mine for counted in _of_association(row, user)]
    stated += _of_parents(query, where, mine)
    accounts = {row["Account"] for row in mine}
    for row in _rows(query("sacctmgr", "-nP", "show", "qos", "format=" + ",".join(_QOS)), _QOS):
        stated += _of_qos(row, user, accounts) if row["Name"] in wanted else []
    if not stated:
        return found
    whose = ["-u", user] if all(counted.user for counted in stated) else []
    queued = parse_queued(query("squeue", "-h", "--all", *whose, "-o", "%i|%u|%a|%q|%t"))
    return found + [counted.limit._replace(used=_used(counted, queued)) for counted in stated]


def _associations(query: Query, *where: str) -> List[Row]:
    return _rows(query("sacctmgr", "-nP", "show", "assoc", *where, "format=" + ",".join(_ASSOCIATION)), _ASSOCIATION)


def _rows(text: str, columns: Sequence[str]) -> List[Row]:
    """Return the rows of ``sacctmgr -P``, which prints the columns that it is asked for; a missing one is empty."""
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    return [dict(zip(columns, row + [""] * len(columns))) for row in rows]


def _default_qos(association: Row) -> str:
    """Return the QOS of a job that asks for none: the default, the only one that is allowed, or the usual one."""
    allowed = association["QOS"].split(",")
    return association["DefaultQOS"] or (allowed[0] if len(allowed) == 1 else "") or _USUAL_QOS


def _qos_of_partition(text: str, wanted: Optional[str]) -> str:
    """Return the QOS of a partition, of the default one where none is wanted; empty where there is none."""
    for line in text.splitlines():
        facts = dict(_PARTITION.findall(line))
        if facts.get("PartitionName") == wanted if wanted else facts.get("Default") == "YES":
            return str(facts.get("QoS", "")).replace("N/A", "")
    return ""


def _of_association(row: Row, user: str) -> List[Counted]:
    scope, accounts = "account " + row["Account"], {row["Account"]}
    return [
        Counted(limit, user, accounts) for limit in _limits(scope, row, "MaxSubmit", "MaxJobs", "GrpSubmit", "GrpJobs")
    ]


def _of_parents(query: Query, where: List[str], mine: List[Row]) -> List[Counted]:
    """Return the limits on all members together, of the accounts and of their parents.

    Of a parent's jobs those of the accounts on the way to it are counted, not those of its other children.
    """
    found: List[Counted] = []
    below = {row["Account"]: {row["Account"]} for row in mine}
    for _ in range(_MOST_GENERATIONS):
        rows = _associations(query, *where, "account=" + ",".join(sorted(below)), "user=") if below else []
        parents: Dict[str, Set[str]] = {}
        for row in rows:
            name = row["Account"]
            if name not in below:
                continue
            stated = _limits("account %s, all members" % name, row, "GrpSubmit", "GrpJobs")
            found += [Counted(limit, None, below[name]) for limit in stated]
            if row["ParentName"]:
                parents.setdefault(row["ParentName"], {row["ParentName"]}).update(below[name])
        below = parents
    return found


def _of_qos(row: Row, user: str, accounts: Set[str]) -> List[Counted]:
    name = row["Name"]
    scope = "qos " + name
    found = [Counted(limit, user, None, name) for limit in _limits(scope, row, "MaxSubmitPU", "MaxJobsPU")]
    members = _limits(scope + ", all members of your account", row, "MaxSubmitPA", "MaxJobsPA")
    found += [Counted(limit, None, accounts, name) for limit in members]
    everybody = _limits(scope + ", everybody", row, "GrpSubmit", "GrpJobs")
    return found + [Counted(limit, None, None, name) for limit in everybody]


def _limits(scope: str, row: Row, *names: str) -> List[Limit]:
    kinds = ((name, "submitted" if "Submit" in name else "running") for name in names)
    return [Limit(name, scope, kind, int(row[name])) for name, kind in kinds if row[name].strip().isdigit()]


def parse_queued(text: str) -> Optional[List[Queued]]:
    """Return the rows of ``squeue -o %i|%u|%a|%q|%t``; None where an index list was cut short."""
    found = []
    for line in text.splitlines():
        job, *columns = line.split("|")
        match = ROW_ID.match(job)
        try:
            found += [Queued(len(elements(match)), *columns[:4])] if match else []
        except ValueError:
            return None
    return found


def _used(counted: Counted, queued: Optional[List[Queued]]) -> Optional[int]:
    if queued is None:
        return None
    return sum(
        row.elements
        for row in queued
        if row.user in (None, counted.user or row.user)
        and (row.account is None or counted.accounts is None or row.account in counted.accounts)
        and row.qos in (None, counted.qos or row.qos)
        and (counted.limit.kind == "submitted" or row.state not in (None, "PD"))
    )
