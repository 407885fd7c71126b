"""The signs of each class of failure: one table of patterns, in order of precedence.

A pattern is matched against one line. Patterns are simple on purpose: logs are hostile input. tests/data/why holds the
recorded messages that they were read from.
"""

import re
from typing import List, NamedTuple, Pattern, Tuple

from . import translations

CERTAIN, LIKELY, GUESS = "certain", "likely", "guess"
# Signs that say nothing more than a launcher's own failure.
WEAK = ("missing_file", "permission")
# The memory of an accelerator library: of the GPU, or of the host where the task has no GPU (classify.py decides).
DEVICE_MEMORY = "device_memory"
# A process of the task was killed: for memory, or not where memory was left (failure_case.py decides).
KILLED = "killed"

_EITHER_CASE = re.compile(r"\[(\w)(\w)\]")


class Sign(NamedTuple):
    """A class of failure, the confidence in it, and the patterns of a line that shows it."""

    name: str
    confidence: str
    patterns: Tuple[Pattern[str], ...]

    def shown_in(self, text: str) -> bool:
        return any(pattern.search(text) for pattern in self.patterns)


def _sign(name: str, confidence: str, *patterns: str) -> Sign:
    """Compile the patterns that begin with a letter apart: ``re`` then looks only where one of these letters stands."""
    lettered: List[str] = []
    other: List[str] = []
    for pattern in patterns:
        match = _EITHER_CASE.match(pattern)
        if match:
            lettered += [letter + pattern[match.end() :] for letter in match.groups()]
        else:
            (lettered if pattern[0].isalpha() else other).append(pattern)
    return Sign(name, confidence, tuple(re.compile("|".join(group), re.M) for group in (lettered, other) if group))


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

_MEMORY_SIGNS: Tuple[Sign, ...] = (
    _sign("out_of_memory", LIKELY, "OOM when allocating.{0,400}(?:device:CPU|allocator (?:mkl)?cpu)"),
    _sign("gpu_memory", CERTAIN, "(?:CUDA|HIP|XPU) out of memory", "(?:CUDA|HIP) error: out of memory",
          "CUDA_ERROR_OUT_OF_MEMORY", "cudaErrorMemoryAllocation", "hipErrorOutOfMemory", "MPS backend out of memory",
          "cudaMalloc.{0,80}out of memory", "CUDA driver error: out of memory", r"Cuda Runtime \(out of memory\)",
          r"cuMemAlloc\S{0,20} failed", "Cuda failure.{0,20}out of memory", r"cupy\S{0,40}OutOfMemoryError",
          r"torch\.(?:cuda\.)?OutOfMemoryError", "Out of GPU memory", "OutOfGPUMemoryError",
          r"CUDA error [0-9]+: out of memory", r"\[CUDA\] out of memory", "Out of memory on device", "RMM failure",
          "RMM_ERROR_OUT_OF_MEMORY", "No available memory for the cache blocks",
          "less than desired GPU memory utilization", "No available memory for the KV cache"),
    _sign("gpu_memory", LIKELY, "GPU allocator", "on device ordinal [0-9]", "memory space hbm",
          r"clCreateBuffer \(-4\)",
          "tokens that can be stored in KV cache", "OOM when allocating.{0,400}GPU", "RESOURCE_EXHAUSTED.{0,400}GPU",
          "CU(?:BLAS|DNN|FFT)_(?:STATUS_)?ALLOC_FAILED", "cuFFT failed to allocate", "MEM_OBJECT_ALLOCATION_FAILURE",
          "std::bad_alloc.{0,40}(?:CUDA|cuda)", "memory needed.{0,200}KV cache",
          "KV cache.{0,200}(?:is larger|not enough)"),
    _sign(DEVICE_MEMORY, LIKELY, "RESOURCE_EXHAUSTED.{0,400}(?:[Oo]ut of memory|OOM|allocat)",
          "Resource exhausted: (?:OOM|Out of memory)", "OOM when allocating tensor",
          "Failed to allocate.{0,200}by allocator", "BFCArena.{0,400}[Ff]ailed to allocate", "requested buffer of size"),
    _sign("out_of_memory", LIKELY, "Could not reserve enough space for", "insufficient memory for the Java Runtime",
          "Could not allocate (?:compressed class space|metaspace)", r"Native memory allocation \(\w+\) failed",
          r"os::commit_memory\(.{1,200} failed"),
    _sign("heap_full", CERTAIN,
          r"OutOfMemoryError: (?:Java heap|GC overhead|Metaspace|PermGen|Direct buffer)",
          r"OutOfMemoryError: (?:Compressed class|Requested array|Cannot reserve)",
          "JavaScript heap out of memory", "vector memory exhausted", "Heap exhausted", "Allowed memory size of",
          r"vector memory limit of [0-9.]+ \w+ reached", "exceeds maximum array size preference"),
    MEMORY_SIGN,
    _sign("too_many_threads", LIKELY, r"pthread_create(?: failed for thread [0-9]+ of [0-9]+|): ",
          r"pthread_create failed \(EAGAIN\)", "can't start new thread", "unable to create (?:new )?native thread",
          "fork: (?:retry: )?(?:Resource temporarily unavailable|No child processes)",
          "Thread creation failed: Resource temporarily", "failed to create new OS thread",
          r"cannot start the executor: \[Errno 11\]", "resources for OMP thread",
          "pthread_create failed.{0,200}Resource temporarily unavailable", *translations.NO_PROCESS, "^No more processes"),
    _sign("out_of_memory", LIKELY, r"MemoryError\b", "[Cc]annot allocate memory", r"std::bad_alloc",
          r"Unable to allocate [0-9.]+ \w{0,3}B", "DefaultCPUAllocator: (?:can't allocate|not enough) memory",
          r"\[Errno 12\]", "cannot allocate vector of size", r"\bOutOfMemoryError\b", "nsufficient virtual memory",
          "virtual memory exhausted", "Error allocating [0-9]+ bytes", r"Out of memory\b", "runtime: out of memory",
          "[Mm]emory allocation (?:of [0-9]+ bytes )?failed", r"[mr]e?alloc of size [0-9]+ failed",
          "[Ff]ailed to allocate memory", "[Cc]ould(?: not|n't) allocate memory", "Memory allocation still failed",
          "Container killed .{0,40}exceeding .{0,40}memory limits", "[Cc]annot allocate [0-9]+ bytes",
          "not enough memory", "[Mm]emory exhausted",
          "[Ii]nsufficient memory(?! (?!for|to|in|on|at|while|available|is|was|error)[a-z])", r"(?:: |^)out of memory\b",
          "OutOfMemoryException", "[Mm]alloc failed", "running beyond (?:physical|virtual) memory limits",
          "No more memory available", "refuses to provide memory", "cannot satisfy memory request",
          "Array buffer allocation failed", "Allocation would exceed memory limit",
          "(?:No space left on device|Errno 28).{0,200}/dev/shm", *translations.NO_MEMORY),
    _sign("out_of_memory", GUESS, "out of shared memory", "insufficient shared memory", "exceeded [0-9]+% memory budget",
          "failed to map segment from shared object$"),
    _sign(KILLED, GUESS, r"\(pid.{1,40} killed by signal: Killed", r"SIGKILL\(-9\)", r"died with <Signals\.SIGKILL",
          r"exitcode {0,4}: -9\b", r"Signal 9 \(SIGKILL\)", r"return code {0,2}= -9\b", "got signal: 9$",
          r"error exit status \(137\)", r": line [0-9]+: +[0-9]+ Killed\b", "^Killed$", r"ProcessExitedException\(",
          "MulticoreFuture.{1,400}no longer alive", "scheduled cores? [0-9, ]{1,200} did not deliver results?",
          r"DataLoader worker \(pid.{1,200} exited unexpectedly"),
    _sign("signal", LIKELY, "got signal: [0-9]+$", r"exitcode {0,4}: -[0-9]+\b", r"return code {0,2}= -[0-9]+\b"),
)  # fmt: skip

# FlexNet's codes (of MATLAB, Ansys, COMSOL, Abaqus, ...) that pass by themselves, and those that need a person.
_FLEXNET = r"[Ll]icen[cs]\w{1,3} (?:[Mm]anager )?[Ee]rror:? ?-(?:%s)(?:[^0-9]|$)"
_LICENCE_SIGNS: Tuple[Sign, ...] = (
    _sign("licence", CERTAIN, _FLEXNET % "3|4|7|1[5-9]|20|23|24|3[35]|9[67]|101",
          "installation is in use by another user", "number of users (?:already reached|for .{1,100} reached)",
          "[Aa]ll licen[cs]es (?:are )?(?:in use|busy)", "desired vendor daemon is down", "[Nn]o tokens available",
          "active sessions and over the baseline", r"[Ll]icen[cs]e server (?:machine |system )?is down"),
    _sign("licence", LIKELY, "[Ll]icen[cs]e .{1,100} is not available now", "[Ll]icen[cs]es? (?:request )?queued",
          "(?:annot|ould not|nable to|ailed to) connect to (?:the |any )?(?:[Ll]icen[cs]e|token) (?:server|manager)",
          "No socket connection to license server", "Insufficient .{1,100} licenses available",
          "[Nn]o (?:more )?licen[cs]es? available(?! for .{0,20}(?:use|purpose))",
          "[Ww]aiting for (?:an? |the |[0-9]+ )?.{0,40}licen[cs]es?\\b",
          "Error connecting to license server", r"\(RLM\).{0,80}\(-(?:17|22|110|111)\)",
          "Maximum number of .{0,40}licenses?.{0,40} reached", "[Nn]ot enough (?:licen[cs]es|.{0,20}tokens)",
          r"token\.gurobi\.com", r"err_license_(?:max|server|cannot_connect)",
          "aximum number of (?:simultaneous |concurrent )?users"),
    _sign("licence_invalid", LIKELY, _FLEXNET % "1|2|5|6|8|9|1[0134]|2[1256]|3[0-2489]|88",
          "[Ll]icen[cs]e (?:has |is |key )?(?:has )?expired", "HostID mismatch", "[Nn]o .{0,20}license found",
          "find a valid license", "[Ll]icense not valid", "not in authorized user list", "not on INCLUDE list",
          "on EXCLUDE list", "license file cannot be found", "[Nn]o such feature exists", "[Ff]eature has expired",
          "(?i:error) 10009", "ILM Error", "Community Edition. Problem size", "err_(?:missing_)?license",
          "(?:cannot find a|No) valid password", "size-limited license", "[Ii]nvalid licen[cs]e (?:key|file|server)",
          r"product .{1,80} (?:is not licensed|with which .{1,80} expired)"),
    _sign("licence", LIKELY, "[Ll]icen[cs]e check-?out (?:has )?failed",
          "[Ll]icen[cs]e could not be (?:obtained|checked out)",
          "(?:ailed to|nable to|ould not|annot) (?:check ?-?out|obtain|acquire|get|request) .{0,60}[Ll]icen[cs]e",
          "LICENSE MANAGER ERROR", "license not available"),
)  # fmt: skip

# One process of the task lost another one, or waited for it in vain.
_PEER_SIGN = _sign(
    "lost_peer", LIKELY, "Watchdog caught collective operation timeout",
    "remote process exited or there was a network error", "ncclRemoteError",
    "Some NCCL operations have failed or timed out", "Connection closed by (?:remote )?peer",
    r"gloo/.{1,200}(?:[Tt]imed? ?out|Read error|Write error|Socket|connect)", "Application timeout caused pair closure",
    "Timed out waiting [0-9]+ms for", "has lost communication with", "DistStoreError", "DistNetworkError",
    "client socket has timed out", r"waiting for (?:clients|workers)\. [0-9]+/[0-9]+", "RendezvousTimeoutError",
    "[Tt]ransport retry count(?:er)? exceeded", "Got completion from peer",
    "UCX +ERROR.{1,200}(?:reset|timed out|closed)", r"_(?:btl|oob)_tcp\w*\]? .{0,80}(?:failed|closed)",
    "Communication error with rank", "ncclUniqueId", "socketStartConnect", "NCCL WARN .{1,200}[Tt]imed? ?out",
    "RendezvousConnectionError", "Timeout waiting for key", "monitoredBarrier", "Barrier timed out",
    "[Hh]eartbeat timeout(?! ?(?:is|of|set|[0-9=:]))", "coordination service.{0,80}(?:rror|fail|timed out|navailable)",
    "Horovod has been shut down", "connectFullMesh failed", r"assert \(!closed\) failed", "OFI poll failed",
    "peer process has (?:unexpectedly )?(?:disconnected|died|failed)", "unable to reach each other",
    "unable to reliably start one or more daemons", "PMIX ERROR: (?:UNREACH|LOST|TIMEOUT|COMM)",
    "failed to connect to all addresses", "MPI_ERR_PROC_FAILED", "Failure during collective",
    "retry count between two MPI processes", "RETRY EXCEEDED", "(?:Node|Owner)DiedError", "ExecutorLostFailure",
    "HorovodInternalError", "CommClosedError",
    "dump debug info, due to", r"watchdog got stuck for [0-9]+ seconds", "distributed service detected fatal errors",
    "stopped sending heartbeats", "RendezvousClosedError", "Collective ops is aborted by",
    "Cannot read from remote process", "MPIDI_OFI_mpi_init_hook", "mca_btl_tcp_endpoint_recv_connect_ack",
    "Call to (?:recv|send|connect)[^:]{0,80} failed",
)  # fmt: skip
_OUTSIDE_SIGNS: Tuple[Sign, ...] = (
    _sign("lost_peer", GUESS, "ncclSystemError", "ncclInternalError"),
    _sign("service_busy", LIKELY, "(?i:too ?many ?requests)", "pull rate limit", "returned error: (?:429|50[234])",
          r"HTTP Error (?:429|50[234])",
          r"\b50[234] (?:Server Error|Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time)"),
    _sign("network", LIKELY, "[Nn]ame or service not known", "[Tt]emporary failure in name resolution",
          "NameResolutionError", "[Cc]ould not resolve (?:host|proxy)", "unable to resolve host",
          r"\[Errno (?:101|113)\]", "[Nn]etwork is unreachable", "[Nn]o route to host", "getaddrinfo failed",
          r"dial tcp.{1,200}(?:no such host|i/o timeout|unreachable)", "[Cc]annot connect to proxy",
          "Tunnel connection failed", "We couldn't connect to 'https?://", "LocalEntryNotFoundError",
          "OfflineModeIsEnabled", "[Ii]nternet (?:connection|access)", "Read timed out", r"Download error \(",
          "cannot open the connection to 'https?:", "could not download https?:", "UnknownHostException",
          "NoRouteToHostException", "ConnectException: Connection timed out",
          r"^(?!.{0,1000}(?:localhost|127\.0\.0\.1)).{0,1000}Failed to establish a new connection",
          r"wandb\S{0,40}CommError", r"wandb: .{0,20}Network error", r"curl: \((?:5|6|7|28|35|56)\)", "CondaHTTPError",
          "CONNECTION FAILED for url", "ConnectTimeout",
          r"^(?!.{0,1000}(?:localhost|127\.0\.0\.1)).{0,1000}Max retries exceeded with url",
          "Failed to connect to (?!localhost|127).{1,200} port [0-9]+", r"\[Errno 110\]", "ssh: connect to host",
          "cannot open URL 'https?:", "TLS handshake timeout", "Could not connect to the endpoint URL",
          "<urlopen error timed out", "URL fetch failure on", "[Cc]ouldn't reach .{0,200}(?:https?:|on the Hub)",
          "All connection attempts failed",
          r"Cannot connect to host (?!localhost|127\.)", "Unable to find the server at", r"\b(?:ENOTFOUND|EAI_AGAIN)\b",
          r"Connecting to (?!localhost|127\.).{1,200} failed: (?:Connection timed out|Network|No route)",
          "network failure seems to have happened", "Offline mode is enabled", r"NLTK Downloader|nltk\.download\(",
          "unable to access index for repository", *translations.NO_NETWORK),
)  # fmt: skip

# Messages of programs and shells.
SIGNS: Tuple[Sign, ...] = (
    *_MEMORY_SIGNS,
    *_LICENCE_SIGNS,
    _sign("node_failure", LIKELY, "[Ss]tale (?:NFS )?file handle", "Transport endpoint is not connected",
          "transport endpoint shutdown", "Input/output error", r"\[Errno (?:5|107|108|112|116|121)\]",
          "Remote I/O error", "Host is down", "Communication error on send", "Structure needs cleaning",
          "Too many open files in system", "GPU is lost", "uncorrectable ECC", "fallen off the bus",
          "Driver/library version mismatch", "CUDA_ERROR_MPS_", "Prolog (?:hung|failure) on node",
          "slurmstepd: error: Prolog", r"Task launch for \S{1,40} failed on node \S{1,200}: (?!Unable to layout)",
          "ob prolog failed", "[Jj]ob credential",
          "slurmstepd: error: (?:Unable to (?:resolve|establish|create)|container_p_)", *translations.STORAGE),
    _sign("disk_full", CERTAIN, "[Nn]o space left on device", "[Dd]isk quota exceeded", r"\[Errno (?:28|122)\]",
          r"\bENOSPC\b", r"\bEDQUOT\b", *translations.NO_SPACE),
    _sign("signal", LIKELY, "[Ss]egmentation fault", r"\bSIGSEGV\b", "Illegal instruction", "Floating point exception",
          *translations.CRASH),
    _PEER_SIGN,
    *_OUTSIDE_SIGNS,
    _sign("node_failure", GUESS, "[Cc]onnection reset", "ConnectionResetError", r"\b[Bb]us error",
          r"CUDA-capable device\(s\) is/are busy",
          "CUDA-capable devices are busy"),
    _sign("environment", LIKELY, "Lmod has detected the following error", "Unable to locate a modulefile",
          "(?:module|conda|mamba|ml): command not found", "EnvironmentNameNotFound", "EnvironmentLocationNotFound",
          "Could not find conda environment", "shell has not been properly configured", "Run 'conda init' before",
          "hpc-agent: (?:module load|conda|shell_init|this node has no 'module')", "Exec format error",
          "error while loading shared libraries", r"version [`'][A-Za-z_]+_?[0-9.]+' not found", "undefined symbol: ",
          "cannot open shared object file", "failed to map segment from shared object", "C-extensions failed",
          "UnsatisfiedLinkError", "could not load library",
          r"\.so\S{0,20}: (?:file too short|invalid ELF|wrong ELF|cannot )", "multiarray failed to import",
          "binary incompatibility", "driver version is insufficient", "NVIDIA driver on your system is too old",
          "configured to use ASCII as encoding", "OMPI was not built with", "no kernel image is available",
          "compiled to use .{1,80} instructions", "UnsupportedClassVersionError"),
    # Containers (Apptainer, Singularity, Docker, Podman, enroot with pyxis, Charliecloud) and their images.
    _sign("environment", LIKELY, "container creation failed", "mount hook function failure", "while mounting ",
          "resolve session directory", "create user namespace", "user namespaces? (?:is |are )?(?:disabled|not)",
          "image format not recognized", "[Ff]ailed to mount (?:squashfs|image|overlay)", "bad superblock",
          "SQUASHFS error", "squashfuse", "(?:could not|failed to|while) open(?:ing)? .{0,20}image",
          "While making image", "OCI runtime", "nvidia-container-cli: ", "Error response from daemon",
          "pyxis: (?:container start failed|couldn't start|failed to)", r"ch-run\[[0-9]+\]: error"),
    _sign("missing_module", CERTAIN, "No module named", "ModuleNotFoundError", "there is no package called",
          r"ArgumentError: Package \S{1,200} (?:not found|does not have)", *translations.NO_PACKAGE),
    _sign("missing_module", LIKELY, "No matching distribution found for", r"Can't locate \S{1,200}\.pm in @INC",
          "Cannot find module '[^./]"),
    _sign("command_not_found", CERTAIN, "[Cc]ommand not found",
          r"^\S{0,100}sh: (?:(?:line )?[0-9]+: )?\S{1,200}: not found", "^(?:/usr/bin/)?env: .{1,200}: No such file",
          "bad interpreter(?!: Permission)", r"execv\w{0,2}(?:\(\))?: .{1,300}: No such file",
          r"executable file not found in \$PATH", *translations.NO_COMMAND),
    _sign("missing_file", CERTAIN, "can't open file '", "FileNotFoundError"),
    _sign("missing_file", LIKELY, "[Nn]o such file or directory", *translations.NO_FILE),
    _sign("permission", CERTAIN, "PermissionError"),
    _sign("permission", LIKELY, "[Pp]ermission denied", "Operation not permitted", "Read-only file system",
          "Key has (?:expired|been revoked)", "Required key not available", *translations.NO_PERMISSION),
    _sign("signal", LIKELY, "Fatal Python error", r"Aborted \(core dumped\)", "exited on signal [0-9]+",
          "killed by signal", "BAD TERMINATION OF ONE", "Caught signal number [0-9]+"),
    # What else Apptainer and Singularity refuse.
    _sign("environment", LIKELY, r"^FATAL: {3}\S", "^(?:ERROR|ABORT)  : "),
)  # fmt: skip
