"""Why a task waits, in a sentence: the schedulers' reason words, and our own.

The words are those of the squeue manual page ("JOB REASON CODES") and of ``qstat -j``.
"""

import re
from typing import Any, Dict, List, Tuple

# Why an array has no job id yet, by the state of its entry in the ledger (or by what holds it).
UNSUBMITTED = {
    "planned": "not submitted yet",
    "intent": "its submission was cut off; the next 'hpc-agent submit' or 'hpc-agent monitor-flow' settles it",
    "refused": "the scheduler refused it",
    "canary": "waits until 'hpc-agent verify-canary' finds the canary in order",
}

# word -> (sentence, does it end by itself?)
SENTENCES: Dict[str, Tuple[str, bool]] = {
    "Priority": ("jobs of higher priority come first", True),
    "Resources": ("waits for free nodes, cores or memory", True),
    "Dependency": ("waits for an earlier array to end", True),
    "BeginTime": ("its earliest start time has not come, or it was just requeued", True),
    "Cleaning": ("the node of its last attempt is being cleaned up", True),
    "JobArrayTaskLimit": ("as many elements of this array run as its throttle allows", True),
    "ThrottleLimit": ("as many elements of this array run as its throttle allows", True),
    "Licenses": ("waits for a licence", True),
    "Reservation": ("waits for its reservation to begin", True),
    "ReqNodeNotAvail": ("a node that it needs is down, drained or reserved", True),
    "NodeDown": ("a node that it needs is down", True),
    "Prolog": ("the node is being prepared", True),
    "FrontEndDown": ("the front end node is down", True),
    "InvalidQOS": ("its QOS does not exist any more", False),
    "InvalidAccount": ("its account is not valid any more", False),
    "DependencyNeverSatisfied": ("it waits for a job that cannot end as it should", False),
    "PartitionTimeLimit": ("it asks for more time than the partition allows", False),
    "PartitionNodeLimit": ("it asks for more nodes than the partition has or allows", False),
    "PartitionDown": ("the partition is closed: jobs queue, none starts", False),
    "PartitionInactive": ("the partition is closed: nothing is accepted or started", False),
    "PartitionConfig": ("it asks for what the partition does not have", False),
    "BadConstraints": ("no node has what it asks for", False),
    "JobHeldUser": ("you put it on hold ('scontrol release' lets it go)", False),
    "JobHeldAdmin": ("an administrator put it on hold", False),
    "JobHoldMaxRequeue": ("it was requeued too often and is on hold", False),
    "launch failed requeued held": ("it could not be started, was requeued, and is on hold", False),
    "JobLaunchFailure": ("it could not be started on its node", False),
    "AccountNotAllowed": ("the account may not use this partition", False),
    "QOSNotAllowed": ("the QOS may not use this partition", False),
    "QOSUsageThreshold": ("the use of the QOS is above its threshold", True),
    "NodeDownRequeue": ("its node went down; it was requeued", True),
    "SupervisorDown": ("the local scheduler's supervisor could not be started", False),
}  # fmt: skip
_ABOVE = re.compile(r"^(QOS|Assoc|Association)?(Max|Grp|MaxJobs|Job)\w*(Limit|PerUser|PerAccount|PerJob|PerNode)\w*$")
# A limit on one job alone never lets it start; a limit on all of them together does, once others have ended.
_ONE_JOB = re.compile(r"PerJob|PerNode|WallDuration")


def sentence(state: str, reason: str) -> Tuple[str, bool]:
    """The reason for people, and whether it will pass without anybody doing something."""
    word = reason.strip("()").partition(",")[0].strip()
    known = SENTENCES.get(word) or SENTENCES.get(word.partition(" ")[0])
    if known:
        return known
    if state == "not submitted":
        return reason, not reason.startswith((UNSUBMITTED["refused"], UNSUBMITTED["canary"]))
    if _ABOVE.match(word):
        passes = not _ONE_JOB.search(word)
        whose = "the QOS" if word.startswith("QOS") else "the account"
        return ("%s is at its limit (%s)" if passes else "it asks for more than %s allows (%s)") % (whose, word), passes
    if state == "error":
        return "the scheduler could not start it: %s" % (reason or "see qstat -j"), False
    if state == "held":
        return "on hold: %s" % (reason or "somebody has to release it"), False
    if state == "suspended":
        return "suspended: it keeps its place and stands still", True
    return reason or "the scheduler gives no reason yet", True


def explain(waiting: Dict[Tuple[str, str], int]) -> List[Dict[str, Any]]:
    """Each reason with its count and sentence; what does not end by itself comes first."""
    rows: List[Dict[str, Any]] = []
    for (state, reason), count in waiting.items():
        words, passes = sentence(state, reason)
        rows.append({"state": state, "reason": reason, "count": count, "sentence": words, "passes": passes})
    return sorted(rows, key=lambda row: (row["passes"], -int(row["count"]), row["reason"]))[:20]
