"""The catalogue of failures: the name of each class, its signs, and its remedy."""

from typing import List, NamedTuple, Optional

RESUBMIT = "hpc-agent resubmit --run-id RUN --classes "
# How the reason of a refusal begins where no resubmission can ask for more.
AT_LIMIT = "it asks for"
_LOGS = "hpc-agent logs --run-id RUN --task-id N"


class FailureClass(NamedTuple):
    """One kind of failure.

    Recovery acts by itself on "continue", "more_memory", "more_time", "resubmit" and "other_nodes", at most ``attempts``
    times a task, with the limit times ``multiplier``. "fix" needs new code or settings, "ask" a decision.
    """

    name: str
    title: str
    action: str
    signs: str
    remedy: str
    attempts: int = 0
    multiplier: Optional[float] = None


# In order of precedence. A remedy ends with the command to type.
CATALOGUE: List[FailureClass] = [
    FailureClass("checkpointed", "Stopped with a checkpoint", action="continue", attempts=100,
        signs="The executor stopped itself, or was stopped at its time limit or by preemption, and left files in its "
        "checkpoint folder.",
        remedy="Let the tasks go on from their checkpoints: " + RESUBMIT + "checkpointed"),
    FailureClass("gpu_memory", "Out of GPU memory", action="ask",
        signs="The log ends with 'CUDA out of memory', CUDA_ERROR_OUT_OF_MEMORY, 'Out of GPU memory', 'RMM failure' or "
        "'No available memory for the cache blocks'; RESOURCE_EXHAUSTED of JAX or TensorFlow where the task has a GPU.",
        remedy="More host memory does not help: use a smaller batch or another GPU type and submit again: hpc-agent "
        "submit"),
    FailureClass("out_of_memory", "Out of memory", action="more_memory", attempts=3, multiplier=2.0,
        signs="The scheduler reports it, slurmstepd reports an oom-kill event, a kill came with at least 90 % of the "
        "memory in use, or the program could not allocate (MemoryError, std::bad_alloc, 'cannot allocate vector', a "
        "Java heap that cannot be reserved, RESOURCE_EXHAUSTED without a GPU).",
        remedy="Give the tasks more memory (twice as much, or what --mem-mb says): " + RESUBMIT + "out_of_memory"),
    FailureClass("heap_full", "The program's own memory limit is reached", action="ask",
        signs="The log ends with 'Java heap space', 'GC overhead limit exceeded', 'JavaScript heap out of memory', "
        "'vector memory exhausted' or 'exceeds maximum array size preference'.",
        remedy="More memory for the job does not help: raise the program's own limit (java -Xmx, node "
        "--max-old-space-size, R_MAX_VSIZE) and submit again: hpc-agent submit"),
    FailureClass("too_many_threads", "No more threads or processes allowed", action="ask",
        signs="The log ends with 'pthread_create failed', \"can't start new thread\", 'unable to create native thread' "
        "or 'fork: Resource temporarily unavailable'.",
        remedy="Start fewer threads (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS: the cores asked for). Where the memory "
        "limit counts reserved memory, as h_vmem of Grid Engine, ask for more with --mem-mb: "
        + RESUBMIT + "too_many_threads"),
    FailureClass("walltime", "Out of time", action="more_time", attempts=2, multiplier=2.0,
        signs="The scheduler reports TIMEOUT or 'DUE TO TIME LIMIT', or the task was stopped when its time was nearly "
        "used up.",
        remedy="Give the tasks more time (twice as much, or what --walltime-sec says): " + RESUBMIT + "walltime"),
    FailureClass("preempted", "Preempted", action="resubmit", attempts=10,
        signs="The scheduler reports PREEMPTED or 'DUE TO PREEMPTION'.",
        remedy="The nodes were needed for a job of higher priority, so send the tasks again: " + RESUBMIT + "preempted"),
    FailureClass("node_failure", "A node or its file system failed", action="other_nodes", attempts=3,
        signs="The scheduler reports NODE_FAIL, or the log ends with a stale file handle, an input/output error, a "
        "lost connection, a bus error, a broken GPU, a failed prolog or a task that srun could not launch.",
        remedy="Nothing is wrong with the tasks, so send them to other nodes: " + RESUBMIT + "node_failure"),
    FailureClass("licence", "No licence was free", action="resubmit", attempts=3,
        signs="A licence server (FlexNet, RLM, Gurobi, MathLM) has no licence left or does not answer: 'License "
        "Manager Error -4', -15, -96, -97, 'All licenses in use', 'No tokens available'.",
        remedy="Wait until licences are free, let fewer tasks run at a time (--max-running of submit, or the "
        "scheduler's count of licences in extra_flags), then send the tasks again: " + RESUBMIT + "licence"),
    FailureClass("licence_invalid", "The licence is not valid here", action="ask",
        signs="A licence has expired, or it does not cover this host, user, version or feature ('License expired', "
        "'HostID mismatch', FlexNet codes -5, -9, -10, -39).",
        remedy="Waiting does not help: let the owner of the licence renew or extend it, then send the tasks again: "
        + RESUBMIT + "licence_invalid"),
    FailureClass("lost_peer", "A process of the task lost another one", action="resubmit", attempts=2,
        signs="NCCL, Gloo, MPI, UCX or Dask report a collective that timed out, or a connection that the other side "
        "closed, and no process shows another error.",
        remedy="The network or a node may have failed; a process that waits for the others at the wrong place looks "
        "the same, so read the logs of all processes before you send the tasks again: " + RESUBMIT + "lost_peer"),
    FailureClass("service_busy", "A service outside refused for now", action="resubmit", attempts=2,
        signs="The log ends with HTTP 429, 502, 503 or 504, or with the pull limit of a container registry.",
        remedy="Fetch data and images once, before the tasks; or wait, then send the tasks again: " + RESUBMIT + "service_busy"),
    FailureClass("network", "No network where the task ran", action="ask",
        signs="A name cannot be resolved, a network or host cannot be reached, or a download (pip, curl, "
        "huggingface_hub, wandb) cannot connect. Many compute nodes have no way to the internet.",
        remedy="Fetch what is needed before, on the login node (shared_paths), or set the site's proxy or the tool's "
        "offline mode (HF_HUB_OFFLINE=1, WANDB_MODE=offline) in env; after a passing fault send the tasks again: "
        + RESUBMIT + "network"),
    FailureClass("disk_full", "No room on a disk", action="ask",
        signs="The log ends with 'No space left on device' or 'Disk quota exceeded' (errno 28 or 122).",
        remedy="Make room where the log shows that it is missing, then send the tasks again: " + RESUBMIT + "disk_full"),
    FailureClass("environment", "The environment could not be set up", action="fix",
        signs="A module, conda environment or shell_init did not load on the node, the scheduler could not start the "
        "job, a shared library is missing or too old for the program (GLIBC, libstdc++), or a container could not be "
        "made.",
        remedy="Correct modules, conda_env or shell_init in clusters.yaml, or the container's image and mounts; a library that "
        "is missing or too old needs another module, container or type of node. Where only some nodes fail, send the tasks "
        "to others: " + RESUBMIT + "environment"),
    FailureClass("missing_module", "A package is not installed", action="fix",
        signs="Python ends with ModuleNotFoundError, or with ImportError for a name that an installed package lacks; R "
        "with 'there is no package called'.",
        remedy="Name another environment (conda_env, 'hpc-agent build-tasks-py --python') and submit; or install the package, or "
        "the version that has the name, in the environment of the tasks and send them again: "
        + RESUBMIT + "missing_module"),
    FailureClass("command_not_found", "A command does not exist", action="fix",
        signs="The shell prints 'command not found' or ends with exit code 127.",
        remedy="Correct the command, or load the module that brings it, then submit again: hpc-agent submit"),
    FailureClass("missing_file", "A file is missing", action="fix",
        signs="The log ends with FileNotFoundError or 'No such file or directory'.",
        remedy="Put the file among those that are pushed (or in shared_paths) or correct its path, then submit again: "
        "hpc-agent submit"),
    FailureClass("permission", "Permission denied", action="fix",
        signs="The log ends with PermissionError, 'Permission denied' or 'Read-only file system', or the shell with "
        "exit code 126.",
        remedy="Let the code write to the task's result folder instead, which makes a new run; or correct the permissions and "
        "send the tasks again: " + RESUBMIT + "permission"),
    FailureClass("cancelled", "Cancelled", action="ask",
        signs="The scheduler reports that a user or an administrator cancelled the job.",
        remedy="Nothing is sent again unless you ask for it: " + RESUBMIT + "cancelled"),
    FailureClass("never_started", "Never started", action="resubmit", attempts=1,
        signs="The scheduler reports that the job was deleted or lost while it was pending.",
        remedy="Send the tasks again: " + RESUBMIT + "never_started"),
    FailureClass("no_output", "Ended without its metrics", action="fix",
        signs="The executor ended with exit code 0, and the metrics it declared are missing or cannot be read.",
        remedy="See in the log what the executor wrote and where, and correct it or the declared results: " + _LOGS),
    FailureClass("no_record", "Ended without a record", action="resubmit", attempts=1,
        signs="The scheduler reports that the job ended well, and no record of the task arrived.",
        remedy="Send the tasks again: " + RESUBMIT + "no_record"),
    FailureClass("code_error", "The program failed", action="fix",
        signs="The log ends with a traceback or another error message, or the program with an exit code that is not 0.",
        remedy="Correct the code at the line that the log names, then submit it: hpc-agent submit"),
    FailureClass("signal", "Killed by a signal", action="ask",
        signs="The program was killed by a signal, such as SIGSEGV or SIGKILL, that nothing explains.",
        remedy="A failure that repeats on another node is the program's own. Read its last output: " + _LOGS),
    FailureClass("unknown", "Unknown", action="ask",
        signs="Neither record, accounting nor logs show the cause.",
        remedy="Read the log, if there is one: " + _LOGS),
]  # fmt: skip

BY_NAME = {entry.name: entry for entry in CATALOGUE}
