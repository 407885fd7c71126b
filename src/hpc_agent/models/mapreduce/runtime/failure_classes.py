"""The catalogue of failures: every class has one stated remedy. ``docs/reference/failures.md`` is made from it."""

from typing import Dict, List


class FailureClass(object):
    """One class of failures.

    signs       what gives it away
    remedy      what a person does about it; RUN and TASK stand for ids
    action      what ``resubmit`` does by itself: resubmit (as it is), more_memory, more_time, other_nodes, continue (from a
                checkpoint); or nothing: fix (the same failure would come back), ask (a person has to decide)
    attempts    how often ``resubmit`` sends a task of this class again by itself
    multiplier  of the memory or walltime that the last attempt asked for
    """

    def __init__(
        self, name: str, title: str, signs: str, remedy: str, action: str, attempts: int = 0, multiplier: float = 1.0
    ) -> None:
        self.name = name
        self.title = title
        self.signs = signs
        self.remedy = remedy
        self.action = action
        self.attempts = attempts
        self.multiplier = multiplier


_RESUBMIT = "'hpc-agent resubmit --run-id RUN'"
_LOGS = "'hpc-agent logs --run-id RUN --all-failed'"

# In order of precedence.
CATALOGUE: List[FailureClass] = [
    FailureClass(
        "checkpointed", "stopped with a checkpoint",
        "exit code 130, or files in $HPC_CHECKPOINT_DIR when it was stopped before its walltime or for another job",
        "It can go on where it stopped: run %s." % _RESUBMIT, "continue", 20,
    ),
    FailureClass(
        "preempted", "preempted", "the scheduler stopped it for a job of higher priority",
        "Nothing is wrong with it: run %s." % _RESUBMIT, "resubmit", 10,
    ),
    FailureClass(
        "walltime", "walltime used up", "the scheduler's accounting, or stopped by a signal at the end of its walltime",
        "Give it more time: %s doubles the walltime, or set --walltime-sec." % _RESUBMIT, "more_time", 2, 2.0,
    ),
    FailureClass(
        "gpu_memory", "GPU out of memory", "CUDA, HIP or XLA says so in the log",
        "More host memory does not help: use a smaller batch or a GPU with more memory, then 'hpc-agent submit' again; "
        "to try it as it is, 'hpc-agent resubmit --run-id RUN --classes gpu_memory'.", "ask",
    ),
    FailureClass(
        "out_of_memory", "out of memory",
        "the scheduler's accounting, an oom-kill message, a kill at the size that was asked for, or a failed allocation",
        "Give it more memory: %s doubles it, or set --mem-mb." % _RESUBMIT, "more_memory", 3, 2.0,
    ),
    FailureClass(
        "node_failure", "node failed", "the scheduler lost the node, or its file systems failed under the task",
        "Run it elsewhere: %s avoids the node where others are left." % _RESUBMIT, "other_nodes", 3,
    ),
    FailureClass(
        "cancelled", "cancelled", "somebody deleted the job: accounting says by whom, where it knows",
        "If that was not on purpose, run 'hpc-agent resubmit --run-id RUN --classes cancelled'.", "ask",
    ),
    FailureClass(
        "never_started", "never started", "it left the queue without having run: deleted or refused while it waited",
        "Run %s: it sends it once more." % _RESUBMIT, "resubmit", 1,
    ),
    FailureClass(
        "environment", "environment failed", "a module, conda, shell_init or the interpreter could not be had on the node",
        "Correct modules, conda_env or shell_init ('hpc-agent clusters-describe NAME' shows them), then run "
        "'hpc-agent resubmit --run-id RUN --classes environment'.", "fix",
    ),
    FailureClass(
        "disk_full", "disk or quota full", "No space left on device, Disk quota exceeded",
        "Free some space on the cluster, then run 'hpc-agent resubmit --run-id RUN --classes disk_full'.", "ask",
    ),
    FailureClass(
        "missing_module", "Python module missing", "ModuleNotFoundError or ImportError ends the log",
        "Install it into the environment of the job or name another (conda_env, modules), then 'hpc-agent submit' again.", "fix",
    ),
    FailureClass(
        "command_not_found", "command not found", "the shell's message, exit code 127",
        "Correct the executor or load what provides the command (modules), then 'hpc-agent submit' again.", "fix",
    ),
    FailureClass(
        "missing_file", "file missing", "No such file or directory, FileNotFoundError",
        "Put the file where the task looks (shared_paths for data), then 'hpc-agent submit' again.", "fix",
    ),
    FailureClass(
        "permission", "permission denied", "PermissionError, Permission denied, exit code 126",
        "Correct the permissions, then run 'hpc-agent resubmit --run-id RUN --classes permission'.", "fix",
    ),
    FailureClass(
        "no_output", "no metrics", "it ended well, but the declared metrics file is missing or cannot be read",
        "Let the executor write it into $HPC_RESULT_DIR, or correct 'results.metrics_file'; then 'hpc-agent submit' again.",
        "fix",
    ),
    FailureClass(
        "no_record", "no record", "the scheduler says that it ended well, and the task left no record",
        "Run %s: it runs it once more." % _RESUBMIT, "resubmit", 1,
    ),
    FailureClass(
        "code_error", "the program failed", "an exception or a non-zero exit code of the executor",
        "Read %s, correct the code, then 'hpc-agent submit' again: changed code is a new run." % _LOGS, "fix",
    ),
    FailureClass(
        "signal", "killed by a signal", "a signal that neither the scheduler nor a limit explains, such as SIGSEGV",
        "Read %s; to try once more, 'hpc-agent resubmit --run-id RUN --classes signal'." % _LOGS, "ask",
    ),
    FailureClass(
        "unknown", "unknown", "neither a record nor the queue nor accounting says what became of it",
        "Read %s; to try once more, 'hpc-agent resubmit --run-id RUN --classes unknown'." % _LOGS, "ask",
    ),
]  # fmt: skip

_BY_NAME: Dict[str, FailureClass] = {kind.name: kind for kind in CATALOGUE}


def by_name(name: str) -> FailureClass:
    """The class called ``name``; ``unknown`` for a name that an older or newer version gave."""
    return _BY_NAME.get(name, _BY_NAME["unknown"])
