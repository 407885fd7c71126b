"""Sentences for the reasons of waiting tasks: those of squeue ("JOB REASON CODES"), ``qstat -j`` and this package."""

import re
from typing import Any, Dict, List, Tuple

# Reasons of an array without a job id, by its state in the ledger, or "canary".
UNSUBMITTED = {
    "planned": "not submitted yet",
    "intent": "its submission was interrupted; the next 'hpc-agent submit' or 'hpc-agent monitor-flow' completes it",
    "refused": "the scheduler refused it",
    "canary": "waits until 'hpc-agent verify-canary' finds the canary in order",
}

# Reason -> (sentence, True where the wait ends by itself).
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
    "Nodes required for job are DOWN": ("the nodes that it could use are down, drained or reserved", True),
    "NodeDown": ("a node that it needs is down", True),
    "Prolog": ("the node is being prepared", True),
    "FrontEndDown": ("the front end node is down", True),
    "InvalidQOS": ("its QOS does not exist any more", False),
    "InvalidAccount": ("its account is not valid any more", False),
    "DependencyNeverSatisfied": ("it waits for a job that cannot end successfully", False),
    "PartitionTimeLimit": ("it asks for more time than the partition allows", False),
    "PartitionNodeLimit": ("it asks for more nodes than the partition has or allows", False),
    "PartitionDown": ("the partition is closed: jobs queue, none starts", False),
    "PartitionInactive": ("the partition is closed: nothing is accepted or started", False),
    "PartitionConfig": ("the partition lacks a resource that it requests", False),
    "BadConstraints": ("no node has the resources that it requests", False),
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
# A job above a limit for one job never starts; a limit on all jobs together ends when others have ended.
_ONE_JOB = re.compile(r"PerJob|PerNode|WallDuration")


def sentence(state: str, reason: str) -> Tuple[str, bool]:
    """Return the reason as a sentence, and True where the wait ends by itself."""
    word = re.split(r"[,(]", reason.strip("()"))[0].strip()
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
        return "on hold: %s" % (reason or "it has to be released"), False
    if state == "suspended":
        return "suspended: it keeps its node and does not run", True
    return reason or "the scheduler gives no reason yet", True


def explain(waiting: Dict[Tuple[str, str], int]) -> List[Dict[str, Any]]:
    """Return each reason with its count and sentence; those that do not end by themselves come first."""
    rows: List[Dict[str, Any]] = []
    for (state, reason), count in waiting.items():
        text, passes = sentence(state, reason)
        rows.append({"state": state, "reason": reason, "count": count, "sentence": text, "passes": passes})
    return sorted(rows, key=lambda row: (row["passes"], -int(row["count"]), row["reason"]))[:20]
