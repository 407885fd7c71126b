"""The signs of each class of failure in the lines of logs. Patterns are simple on purpose: logs are hostile input."""

import re
from typing import List, NamedTuple, Optional, Pattern, Sequence, Tuple

from .log_traces import Trace, ending_of

CERTAIN, LIKELY, GUESS = "certain", "likely", "guess"
# Lines that count as the end of a log. Indented ones are not counted: they belong to the message above.
WINDOW = 20
# Words that also stand in harmless warnings must be nearer to the end.
_WEAK_WINDOW = 8
WEAK = ("missing_file", "permission")

# First lines of the error messages of R, Julia, MATLAB, C++, Fortran, argparse.
_ERROR_START = re.compile(
    r"^Error in |^Error: |^Error using |^ERROR: |^terminate called |Fortran runtime error|^At line [0-9]+ of file"
    r"|^forrtl: |^ERROR STOP|^(?!srun|slurmstepd|mpirun)[^\s:]{1,100}: error: "
)
_ERROR_WORD = re.compile(r"error|fatal|fail|exception|abort|invalid|cannot", re.IGNORECASE)
_LAUNCHER_LINE = re.compile(r"^(?:srun|slurmstepd|mpirun|prterun|hpc-agent): |^-{10,}$")


class Verdict(NamedTuple):
    """A class, the confidence in it, and the line that shows it. ``fixed``: the line is the same for every task."""

    name: str
    confidence: str
    line: str
    source: str = ""
    trace: Optional[Trace] = None
    fixed: bool = False


class Sign(NamedTuple):
    """A class of failure, the confidence in it, and the pattern of a line that shows it."""

    name: str
    confidence: str
    pattern: Pattern[str]


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
          "^(?:/usr/bin/)?env: .{1,200}: No such file", "bad interpreter(?!: Permission)",
          r"execv\w{0,2}(?:\(\))?: .{1,300}: No such file"),
    _sign("missing_file", CERTAIN, "can't open file '", "FileNotFoundError"),
    _sign("missing_file", LIKELY, "[Nn]o such file or directory"),
    _sign("permission", CERTAIN, "PermissionError"),
    _sign("permission", LIKELY, "[Pp]ermission denied", "Operation not permitted", "Read-only file system"),
    _sign("signal", LIKELY, "[Ss]egmentation fault", "Fatal Python error", r"\bSIGSEGV\b", r"Aborted \(core dumped\)",
          "Illegal instruction", "Floating point exception", "exited on signal [0-9]+", "killed by signal",
          "BAD TERMINATION OF ONE"),
)  # fmt: skip


def first_match(lines: List[str], signs: Sequence[Sign] = SIGNS) -> Optional[Verdict]:
    """Return the first sign of the table that a line shows, with the last such line."""
    for sign in signs:
        for line in reversed(lines):
            if sign.pattern.search(line):
                return Verdict(sign.name, sign.confidence, line.strip())
    return None


def search(lines: List[str]) -> Optional[Verdict]:
    """Return the first sign in the last error message of a log, or else near its end."""
    ending = ending_of(lines, WINDOW)
    block = _error_block(ending)
    found = first_match(block or ending)
    if found is not None and found.name in WEAK and not block:
        strong = [sign for sign in SIGNS if sign.name not in WEAK]
        return first_match(ending_of(lines, _WEAK_WINDOW)) or first_match(ending, strong)
    if found is None and block:
        # The second line counts where the first one is only a heading.
        follows = block[0].rstrip().endswith(":") or block[0].startswith(("At line", "Error using"))
        follows = follows or (len(block) > 1 and block[1].startswith((" ", "\t")))
        return Verdict("code_error", LIKELY, " ".join(line.strip() for line in block[: 2 if follows else 1]))
    return found


def _error_block(lines: List[str]) -> List[str]:
    """Return the lines from the start of the last error message; messages close to one another are one."""
    starts = [index for index, line in enumerate(lines) if _ERROR_START.search(line)]
    if not starts:
        return []
    first = starts.pop()
    while starts and first - starts[-1] <= 4:
        first = starts.pop()
    return lines[first:]


def last_line(lines: List[str]) -> str:
    """Return the last line near the end of a log with a word for an error, or else the last line."""
    ending = [line for line in ending_of(lines, _WEAK_WINDOW) if not _LAUNCHER_LINE.match(line)]
    telling = [line for line in ending if _ERROR_WORD.search(line)]
    return (telling or ending or [""])[-1].strip()
