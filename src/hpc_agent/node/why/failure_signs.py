"""The signs of each class of failure in the lines of logs. Patterns are simple on purpose: logs are hostile input."""

import re
from typing import List, NamedTuple, Optional, Pattern, Tuple

CERTAIN, LIKELY, GUESS = "certain", "likely", "guess"


class Sign(NamedTuple):
    """A class of failure, the confidence in it, and the pattern of a line that shows it."""

    name: str
    confidence: str
    pattern: Pattern[str]


class Match(NamedTuple):
    name: str
    confidence: str
    line: str


def _sign(name: str, confidence: str, *patterns: str) -> Sign:
    return Sign(name, confidence, re.compile("|".join(patterns)))


# Messages of a scheduler that ends a job.
JOB_END_SIGNS: Tuple[Sign, ...] = (
    _sign("walltime", CERTAIN, "DUE TO TIME LIMIT", "exceeded hard wallclock time", "walltime [0-9]+ exceeded limit",
          'exceeds job (?:hard|soft) limit "?[hs]_rt', "TERM_RUNLIMIT"),
    _sign("preempted", CERTAIN, "DUE TO PREEMPTION", "DUE TO JOB REQUEUE"),
    _sign("node_failure", CERTAIN, "DUE TO NODE FAIL", "NODE[_ ]FAIL", "error: Node failure on"),
    _sign("cancelled", LIKELY, r"\*\*\* JOB [0-9_.]+ ON \S{1,200} CANCELLED AT"),
)  # fmt: skip
MEMORY_SIGN = _sign(
    "out_of_memory", LIKELY, "oom[-_ ]kill", "OOM Killed", "[Ee]xceeded (?:job |step )?memory limit", "Out Of Memory",
    "[Oo]ut of memory: Kill", "Memory cgroup out of memory", "mem [0-9.]+[kmgt]?b exceeded limit",
    'exceeds job (?:hard|soft) limit "?(?:[hs]_vmem|[hs]_rss|[hs]_data)', "TERM_MEMLIMIT",
)  # fmt: skip

# Messages of programs and shells, in order of precedence.
SIGNS: Tuple[Sign, ...] = (
    _sign("out_of_memory", LIKELY, "OOM when allocating.{0,400}(?:device:CPU|allocator cpu)"),
    _sign("gpu_memory", CERTAIN, "(?:CUDA|HIP|XPU) out of memory", "(?:CUDA|HIP) error: out of memory",
          "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation", "hipErrorOutOfMemory", "MPS backend out of memory",
          "cudaMalloc failed: out of memory", "Cuda failure.{0,20}out of memory", r"cupy\S{0,40}OutOfMemoryError",
          r"torch\.(?:cuda\.)?OutOfMemoryError"),
    _sign("gpu_memory", LIKELY, "RESOURCE_EXHAUSTED.{0,400}(?:[Oo]ut of memory|OOM|allocat)", "GPU allocator",
          "OOM when allocating.{0,400}GPU", "CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED", "CL_MEM_OBJECT_ALLOCATION_FAILURE"),
    MEMORY_SIGN,
    _sign("out_of_memory", LIKELY, r"MemoryError\b", "[Cc]annot allocate memory", r"std::bad_alloc",
          r"Unable to allocate [0-9.]+ \w{0,3}B", "DefaultCPUAllocator: (?:can't allocate|not enough) memory",
          r"\[Errno 12\]", "cannot allocate vector of size", r"\bOutOfMemoryError\b", "nsufficient virtual memory",
          "virtual memory exhausted", "Error allocating [0-9]+ bytes", r"Out of memory\b"),
    _sign("out_of_memory", GUESS, r"\(pid.{1,40} killed by signal: Killed", r"SIGKILL\(-9\)", "out of shared memory",
          r"died with <Signals\.SIGKILL"),
    _sign("node_failure", LIKELY, "[Ss]tale (?:NFS )?file handle", "Transport endpoint is not connected",
          "transport endpoint shutdown", "Input/output error", r"\[Errno (?:5|107|108|116)\]", "uncorrectable ECC",
          "fallen off the bus", "Driver/library version mismatch"),
    _sign("node_failure", GUESS, "[Cc]onnection reset", "ConnectionResetError", r"\b[Bb]us error", "ncclRemoteError",
          r"CUDA-capable device\(s\) is/are busy"),
    _sign("disk_full", CERTAIN, "[Nn]o space left on device", "[Dd]isk quota exceeded", r"\[Errno (?:28|122)\]",
          r"\bENOSPC\b", r"\bEDQUOT\b"),
    _sign("environment", LIKELY, "Lmod has detected the following error", "Unable to locate a modulefile",
          "(?:module|conda|mamba|ml): command not found", "EnvironmentNameNotFound", "EnvironmentLocationNotFound",
          "Could not find conda environment", "shell has not been properly configured", "Run 'conda init' before",
          "hpc-agent: (?:module load|conda|shell_init|this node has no 'module')", "Exec format error",
          "error while loading shared libraries", "version `GLIBC"),
    _sign("missing_module", CERTAIN, "No module named", "ModuleNotFoundError", "there is no package called",
          r"ArgumentError: Package \S{1,200} (?:not found|does not have)"),
    _sign("command_not_found", CERTAIN, "[Cc]ommand not found", r"^\S{0,100}sh: (?:(?:line )?[0-9]+: )?\S{1,200}: not found",
          "^(?:/usr/bin/)?env: .{1,200}: No such file", "bad interpreter", r"execv\w{0,2}(?:\(\))?: .{1,300}: No such file"),
    _sign("missing_file", CERTAIN, "can't open file '", "FileNotFoundError"),
    _sign("missing_file", LIKELY, "[Nn]o such file or directory"),
    _sign("permission", CERTAIN, "PermissionError"),
    _sign("permission", LIKELY, "[Pp]ermission denied", "Operation not permitted", "Read-only file system"),
    _sign("signal", LIKELY, "[Ss]egmentation fault", "Fatal Python error", r"\bSIGSEGV\b", r"Aborted \(core dumped\)",
          "Illegal instruction", "Floating point exception", "exited on signal [0-9]+", "killed by signal",
          "BAD TERMINATION OF ONE"),
)  # fmt: skip


def first_match(lines: List[str], signs: Tuple[Sign, ...]) -> Optional[Match]:
    """Return the first sign of the table that a line shows, with the last such line."""
    for sign in signs:
        for line in reversed(lines):
            if sign.pattern.search(line):
                return Match(sign.name, sign.confidence, line.strip())
    return None
