"""Define the states of a task and their transitions. ``docs/reference/task-states.md`` is made from this file.

Every status works out the states anew (look/run_status.py) from the files on the cluster; no file keeps them.
"""

from typing import Dict

# One byte for each task. LOST is shown as failed: the task left no record, and only the scheduler knows its end.
UNKNOWN, COMPLETE, FAILED, PENDING, RUNNING, LOST = range(6)

NAMES = ("unknown", "complete", "failed", "pending", "running", "failed")

MEANINGS: Dict[str, str] = {
    "pending": "its array is planned, queued, held, requeued or waits for another array; `waiting` says why, "
    "in a sentence",
    "running": "the queue has its element as running, suspended or completing; in a packed element, once it is claimed",
    "complete": "its own success record is there. Nothing else makes a task complete, and a complete task stays "
    "complete",
    "failed": "its own record says so, or accounting does where the task could not write one; `failures` shows "
    "the reason",
    "unknown": "it has no record, and neither the queue nor accounting has it (any more, or yet)",
}

# From state -> to state -> when.
TRANSITIONS: Dict[str, Dict[str, str]] = {
    "pending": {
        "running": "the scheduler starts its element, and the element claims it",
        "failed": "the scheduler refuses to start it, or it was deleted while it waited: for a minute there is no "
        "trace of it",
        "unknown": "it left the queue and its end is not known yet",
    },
    "running": {
        "complete": "the executor ended well, its results are in place, and the record was written",
        "failed": "the record says why; or accounting does, when the task was killed with its dispatcher",
        "pending": "the scheduler put it back: preempted, or its node was lost; the next attempt has the next number",
        "unknown": "it left the queue; its record and accounting are late",
    },
    "unknown": {
        "complete": "the record arrived late",
        "failed": "accounting explained it; or it ended well there and no record came within 90 s",
        "running": "the queue shows it again (it answered with a part, or was restarted)",
        "pending": "the queue shows it again, or it was submitted again",
    },
    "failed": {
        "pending": "it was submitted again (resubmit, a segment of a chain), or put back by the scheduler",
        "running": "the new attempt was claimed between two polls",
        "complete": "the new attempt ended between two polls, or the record arrived after all",
    },
}

# The states of a run, and when it is in them.
LIFECYCLE: Dict[str, str] = {
    "submitting": "this machine began to submit it and has no answer yet; the same `submit` goes on",
    "in_flight": "a task is pending or running, is being explained, or the scheduler could not be asked (`stale`)",
    "complete": "every task is complete",
    "failed": "nothing is pending or running, and at least one task has failed",
    "abandoned": "nothing is pending or running, and some task has been unknown for five minutes",
}
