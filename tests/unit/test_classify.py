"""Every class of failure from log tails as programs, shells and schedulers write them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.node.look.recorded import FailureFacts
from hpc_agent.node.shared.failure_classes import BY_NAME, CATALOGUE
from hpc_agent.node.why.classify import Classification, classify
from hpc_agent.node.why.diagnosis import remedy_of
from hpc_agent.node.why.failure_case import Limits
from hpc_agent.node.why.fingerprints import fingerprint

FAILED = {"cause": "code_error", "message": "exit code 1", "exit_code": 1, "signal": None, "host": "cn017"}
KILLED = {"cause": "signal", "message": "killed by signal 9", "exit_code": None, "signal": 9, "host": "cn017"}
STOPPED = {"cause": "terminated", "message": "stopped by SIGTERM from the scheduler", "exit_code": 143, "signal": None}


def classify_facts(facts, log, scheduler=""):
    limits = {key: value for key, value in facts.items() if key in Limits._fields}
    return classify(FailureFacts.from_json(facts), Limits(**limits), log, scheduler)


def said(cause, raw, **more):
    """Facts of a task without a record, as report.py makes them of accounting."""
    message = f"the scheduler says {raw}; the task left no record"
    return {"cause": cause, "message": message, "evidence": "accounting", "exit_code": None, "signal": None, **more}


def ended(code):
    return {**FAILED, "exit_code": code, "message": f"exit code {code}"}


def died(number):
    return {**KILLED, "signal": number, "message": f"killed by signal {number}"}


def python(last, file="/scratch/u/runs/r1/work/exp/train.py", line=42, function="train"):
    return (
        'Traceback (most recent call last):\n  File "/scratch/u/runs/r1/work/exp/train.py", line 90, in <module>\n'
        f'    main()\n  File "{file}", line {line}, in {function}\n    step(batch)\n    ~~~~^^^^^^^\n{last}\n'
    )


class Row(NamedTuple):
    name: str
    expected: str
    confidence: str
    facts: Any
    log: str = ""
    scheduler: str = ""
    exception: Any = None
    frame: Any = None


HERE = "exp/train.py:42 in train"
SLURM = "slurmstepd: error: "
CHAIN = "\nDuring handling of the above exception, another exception occurred:\n\n"
DIRECT = "\nThe above exception was the direct cause of the following exception:\n\n"

ROWS = [
    # -- accounting
    Row("sacct timeout", "walltime", "certain", said("timeout", "TIMEOUT 0:0")),
    Row("sacct oom", "out_of_memory", "certain", said("out_of_memory", "OUT_OF_MEMORY 0:125")),
    Row("sacct node fail", "node_failure", "certain", said("node_failure", "NODE_FAIL 1:0")),
    Row("sacct preempted", "preempted", "certain", said("preempted", "PREEMPTED 0:0")),
    Row("scancel", "cancelled", "certain", said("cancelled", "CANCELLED by 1001 0:0")),
    Row("qdel while waiting", "never_started", "certain", said("never_started", "CANCELLED by 1001 0:0")),
    Row("accounting before traceback", "walltime", "certain", {**STOPPED, "cause": "timeout"}, python("ValueError: x")),
    Row("accounting before cuda", "cancelled", "certain", said("cancelled", "CANCELLED"),
        python("torch.cuda.OutOfMemoryError: CUDA out of memory.")),
    Row("lost record", "no_record", "certain", said("no_record", "COMPLETED 0:0", exit_code=0)),
    Row("record did not fit", "disk_full", "likely", said("no_record", "COMPLETED 0:0"), "",
        python("OSError: [Errno 28] No space left on device"), "OSError", HERE),
    Row("nobody knows", "unknown", "guess", said("unknown", "UNKNOWN 0:0")),
    Row("no facts", "unknown", "guess", {}),
    Row("sacct exit only", "code_error", "guess", said("exit", "FAILED 3:0", exit_code=3)),
    # -- checkpoints
    Row("asked to go on", "checkpointed", "certain", {"cause": "checkpointed", "checkpoint": True, "exit_code": 85}),
    Row("timeout, checkpoint", "checkpointed", "certain", said("timeout", "TIMEOUT 0:0", checkpoint=True)),
    Row("sigterm, checkpoint", "checkpointed", "likely", {**STOPPED, "checkpoint": True}, "saved step 4000\n"),
    Row("oom is no checkpoint", "out_of_memory", "certain", said("out_of_memory", "OUT_OF_MEMORY", checkpoint=True)),
    Row("error is no checkpoint", "code_error", "certain", {**FAILED, "checkpoint": True}, python("ValueError: x"), "",
        "ValueError", HERE),
    # -- GPU memory
    Row("torch", "gpu_memory", "certain", FAILED, python(
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB total capacity; "
        "13.21 GiB already allocated; 1.19 GiB free; 13.40 GiB reserved in total by PyTorch)"), "",
        "torch.cuda.OutOfMemoryError", HERE),
    Row("torch, old", "gpu_memory", "certain", FAILED, python(
        "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API "
        "call.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1."), "", "RuntimeError", HERE),
    Row("torch on AMD", "gpu_memory", "certain", FAILED, python("torch.OutOfMemoryError: HIP out of memory. Tried ...")),
    Row("jax", "gpu_memory", "likely", FAILED,
        "2024-03-01 12:00:01.123: W external/xla/xla/tsl/framework/bfc_allocator.cc:482] Allocator (GPU_0_bfc) ran out of"
        " memory trying to allocate 16.00GiB\n" + python(
            "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 "
            "bytes."), "", "jaxlib.xla_extension.XlaRuntimeError", HERE),
    Row("tensorflow", "gpu_memory", "likely", FAILED, python(
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: {{function_node __wrapped__Conv2D}} OOM when "
        "allocating tensor with shape[256,64] and type float on /job:localhost/replica:0/task:0/device:GPU:0 by "
        "allocator GPU_0_bfc [Op:Conv2D]")),
    Row("tensorflow on CPU", "out_of_memory", "likely", FAILED, python(
        "ResourceExhaustedError: OOM when allocating tensor with shape[256,64] on /device:CPU:0 by allocator cpu")),
    Row("xgboost", "gpu_memory", "certain", FAILED, python(
        "xgboost.core.XGBoostError: [10:11:12] /workspace/src/common/device_helpers.cu:32: Memory allocation error on "
        "worker 0: std::bad_alloc: cudaErrorMemoryAllocation: out of memory\n- Free memory: 12.1MB\n"
        "Stack trace:\n  [bt] (0) libxgboost.so(+0x38)")),
    Row("numba", "gpu_memory", "certain", FAILED, python(
        "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")),
    Row("CUDA program", "gpu_memory", "certain", ended(2),
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory\n"),
    # -- host memory
    Row("slurmstepd", "out_of_memory", "certain", KILLED, "epoch 3\n", SLURM +
        "Detected 1 oom-kill event(s) in StepId=1234.batch. Some of your processes may have been killed by the cgroup "
        "out-of-memory handler.\n"),
    Row("slurmstepd, old", "out_of_memory", "likely", {**FAILED, "cause": "exit"}, "", SLURM +
        "Exceeded job memory limit at some point.\n"),
    Row("srun", "out_of_memory", "likely", ended(1), "srun: error: cn017: task 0: Out Of Memory\n"),
    Row("a killed child", "out_of_memory", "likely", FAILED, python(
        "joblib.externals.loky.process_executor.TerminatedWorkerError: A worker process managed by the executor was "
        "unexpectedly terminated."), SLURM + "Detected 1 oom_kill event in StepId=77.batch.\n"),
    Row("another task of the pack", "code_error", "certain", FAILED, python("KeyError: 'lr'"),
        SLURM + "Detected 1 oom_kill event in StepId=77.batch.\n", "KeyError", HERE),
    Row("137 near the limit", "out_of_memory", "likely",
        {**FAILED, "cause": "signal", "exit_code": 137, "max_rss_mb": 3800, "mem_mb": 4000},
        "bash: line 1: 4242 Killed                  python train.py\n"),
    Row("137 far from it", "signal", "guess",
        {**FAILED, "cause": "signal", "exit_code": 137, "max_rss_mb": 380, "mem_mb": 4000}, "Killed\n"),
    Row("numpy", "out_of_memory", "likely", FAILED, python(
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array with shape (1000000000,) and "
        "data type float64"), "", "numpy.core._exceptions._ArrayMemoryError", HERE),
    Row("MemoryError", "out_of_memory", "likely", FAILED, python("MemoryError"), "", "MemoryError", HERE),
    Row("fork under h_vmem", "out_of_memory", "likely", FAILED, python("OSError: [Errno 12] Cannot allocate memory")),
    Row("torch on CPU", "out_of_memory", "likely", FAILED, python(
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)")),
    Row("bad_alloc", "out_of_memory", "likely", died(6),
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
        "bash: line 1: 4242 Aborted                 (core dumped) ./solve\n"),
    Row("R vector", "out_of_memory", "likely", FAILED, "Error: cannot allocate vector of size 7.5 Gb\nExecution halted\n"),
    Row("joblib", "out_of_memory", "guess", FAILED, python(
        "joblib.externals.loky.process_executor.TerminatedWorkerError: A worker process was killed. The exit codes of the "
        "workers are {SIGKILL(-9)}")),
    Row("DataLoader", "out_of_memory", "guess", FAILED, python(
        "RuntimeError: DataLoader worker (pid 31337) is killed by signal: Killed. ")),
    Row("SGE h_vmem", "out_of_memory", "certain", KILLED, "",
        'job 123.4 exceeds job hard limit "h_vmem" of queue "all.q@n1" (4.10000G > limit:4.00000G) - sending SIGKILL\n'),
    # -- time, preemption, nodes
    Row("time limit", "walltime", "certain", STOPPED, "epoch 9\n",
        SLURM + "*** JOB 1234 ON cn017 CANCELLED AT 2024-03-01T12:00:00 DUE TO TIME LIMIT ***\n"),
    Row("near the limit", "walltime", "likely", {**STOPPED, "seconds": 3550.0, "walltime_sec": 3600}, "epoch 9\n"),
    Row("far from it", "signal", "guess", {**STOPPED, "seconds": 355.0, "walltime_sec": 3600}, "epoch 9\n"),
    Row("interrupted at the limit", "walltime", "certain", FAILED, python("KeyboardInterrupt"),
        SLURM + "*** STEP 1234.0 ON cn017 CANCELLED AT 2024-03-01T12:00:00 DUE TO TIME LIMIT ***\n"),
    Row("preemption", "preempted", "certain", STOPPED, "",
        SLURM + "*** JOB 1234 ON cn017 CANCELLED AT 2024-03-01T12:00:00 DUE TO PREEMPTION ***\n"),
    Row("a node went", "node_failure", "certain", STOPPED, "", SLURM +
        "*** JOB 7 ON cn017 CANCELLED AT 2024-03-01T12:00:00 DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***\n"),
    Row("scancel in the log", "cancelled", "likely", STOPPED, "",
        SLURM + "*** JOB 1234 ON cn017 CANCELLED AT 2024-03-01T12:00:00 ***\n"),
    Row("NFS", "node_failure", "likely", FAILED, python("OSError: [Errno 116] Stale file handle: '/home/u/x.h5'")),
    Row("Lustre", "node_failure", "likely", ended(5), "cp: error reading '/lustre/u/x.h5': Input/output error\n"),
    Row("rsync", "node_failure", "guess", ended(12),
        "rsync: [sender] read error: Connection reset by peer (104)\nrsync error: error in rsync protocol data stream "
        "(code 12) at io.c(784) [sender=3.2.3]\n"),
    Row("SIGBUS", "node_failure", "guess", died(7), "epoch 1\n"),
    Row("ECC", "node_failure", "likely", FAILED, python(
        "RuntimeError: CUDA error: uncorrectable ECC error encountered")),
    # -- disks
    Row("full disk", "disk_full", "certain", FAILED, python("OSError: [Errno 28] No space left on device"), "",
        "OSError", HERE),
    Row("quota", "disk_full", "certain", ended(1), "tar: results.tar: Wrote only 4096 of 10240 bytes\ntar: Error is not "
        "recoverable: exiting now\ncp: error writing '/home/u/a': Disk quota exceeded\n"),
    # -- environment
    Row("module", "environment", "certain",
        {**FAILED, "cause": "environment", "message": "module load cuda/99 failed", "exit_code": None}, "",
        "Lmod has detected the following error: The following module(s) are unknown: \"cuda/99\"\n\nPlease check the "
        "spelling or version number. Also try \"module spider ...\"\nhpc-agent: module load cuda/99 failed\n"),
    Row("Environment Modules", "environment", "likely", ended(1),
        "ModuleCmd_Load.c(213):ERROR:105: Unable to locate a modulefile for 'gcc/99'\n"),
    Row("conda", "environment", "likely", said("exit", "FAILED 1:0", exit_code=1), "",
        "\nEnvironmentNameNotFound: Could not find conda environment: torch2\nYou can list all discoverable environments "
        "with `conda info --envs`.\n\n"),
    Row("output file", "environment", "certain", said("environment", "FAILED 0:53")),
    Row("shared library", "environment", "likely", ended(127),
        "./solve: error while loading shared libraries: libcudart.so.11.0: cannot open shared object file: No such file or "
        "directory\n"),
    # -- modules, commands, files, permissions
    Row("import", "missing_module", "certain", FAILED, python("ModuleNotFoundError: No module named 'sklearn'"), "",
        "ModuleNotFoundError", HERE),
    Row("import name", "missing_module", "likely", FAILED, python(
        "ImportError: cannot import name 'Literal' from 'typing' (/usr/lib/python3.6/typing.py)")),
    Row("python -m", "missing_module", "certain", FAILED, "/usr/bin/python3: No module named exp.train\n"),
    Row("R library", "missing_module", "certain", FAILED,
        "Error in library(data.table) : there is no package called \u2018data.table\u2019\nExecution halted\n"),
    Row("tasks.py", "missing_module", "certain",
        {**FAILED, "exit_code": None, "message": "tasks.py: ModuleNotFoundError: No module named 'numpy'"},
        "", "", "ModuleNotFoundError"),
    Row("environ", "code_error", "certain", FAILED, python("KeyError: 'SEED'", "<frozen os>", 679, "__getitem__"), "",
        "KeyError", "exp/train.py:90 in <module>"),
    Row("bash", "command_not_found", "certain", ended(127), "/bin/bash: line 1: pyhton: command not found\n"),
    Row("dash", "command_not_found", "certain", ended(127), "/bin/sh: 1: samtools: not found\n"),
    Row("env", "command_not_found", "certain", ended(127), "/usr/bin/env: \u2018python4\u2019: No such file or directory\n"),
    Row("127 alone", "command_not_found", "likely", ended(127)),
    Row("path as command", "command_not_found", "likely", ended(127), "bash: ./run.sh: No such file or directory\n"),
    Row("subprocess", "command_not_found", "likely", FAILED, python(
        "FileNotFoundError: [Errno 2] No such file or directory: 'samtools'", "/usr/lib/python3.9/subprocess.py", 1821,
        "_execute_child"), "", "FileNotFoundError", "exp/train.py:90 in <module>"),
    Row("pandas", "missing_file", "certain", FAILED, python(
        "FileNotFoundError: [Errno 2] No such file or directory: 'data/part_17.csv'",
        "/opt/conda/lib/python3.10/site-packages/pandas/io/common.py", 856, "get_handle"), "",
        "FileNotFoundError", "exp/train.py:90 in <module>"),
    Row("no script", "missing_file", "certain", ended(2),
        "python: can't open file '/scratch/u/work/trian.py': [Errno 2] No such file or directory\n"),
    Row("R file", "missing_file", "likely", FAILED,
        "Error in file(file, \"rt\") : cannot open the connection\nCalls: read.csv -> read.table -> file\nIn addition: "
        "Warning message:\nIn file(file, \"rt\") :\n  cannot open file 'a.csv': No such file or directory\n"
        "Execution halted\n"),
    Row("cat", "missing_file", "likely", FAILED, "cat: input.txt: No such file or directory\n"),
    Row("python permission", "permission", "certain", FAILED, python("PermissionError: [Errno 13] Permission denied: '/x'")),
    Row("not executable", "permission", "certain", ended(126), "/bin/bash: line 1: ./run.sh: Permission denied\n"),
    Row("interpreter not executable", "permission", "certain", ended(126),
        "/bin/bash: ./run.py: /opt/py/bin/python: bad interpreter: Permission denied\n"),
    Row("126 alone", "permission", "likely", ended(126)),
    # -- ended well
    Row("no metrics", "no_output", "certain",
        {**FAILED, "cause": "no_output", "message": "metrics.json was not written", "exit_code": 0}, "done\n"),
    Row("hidden traceback", "no_output", "certain",
        {**FAILED, "cause": "no_output", "message": "metrics.json was not written", "exit_code": 0},
        python("ValueError: x"), "", "ValueError", HERE),
    Row("hidden import", "missing_module", "likely",
        {**FAILED, "cause": "no_output", "message": "metrics.json was not written", "exit_code": 0},
        python("ModuleNotFoundError: No module named 'torch'"), "", "ModuleNotFoundError", HERE),
    # -- code
    Row("sklearn", "code_error", "certain", FAILED, python(
        "ValueError: Input X contains NaN.\nLogisticRegression does not accept missing values encoded as NaN natively."),
        "", "ValueError", HERE),
    Row("old warning", "code_error", "certain", FAILED,
        "cat: extra.cfg: No such file or directory\n" + "epoch 1: loss 0.3\n" * 30
        + python("ZeroDivisionError: division by zero"),
        "", "ZeroDivisionError", HERE),
    Row("warning just before", "code_error", "certain", FAILED,
        "cat: extra.cfg: No such file or directory\n" + python("IndexError: list index out of range"), "", "IndexError", HERE),
    Row("handled long ago", "code_error", "likely", ended(3),
        python("FileNotFoundError: [Errno 2] No such file or directory: 'cache'") + "epoch 1\n" * 60 + "diverged\n"),
    Row("chained", "code_error", "certain", FAILED,
        python("KeyError: 'col_3'", "pandas/_libs/index.pyx", 7, "get_loc") + DIRECT + python("ValueError: no column"),
        "", "ValueError", HERE),
    Row("during handling", "code_error", "certain", FAILED,
        python("FileNotFoundError: [Errno 2] No such file or directory: 'a'") + CHAIN + python("RuntimeError: no config"),
        "", "RuntimeError", HERE),
    Row("group", "code_error", "certain", FAILED,
        '  + Exception Group Traceback (most recent call last):\n  |   File "g.py", line 3, in <module>\n  |     run()\n'
        "  | ExceptionGroup: failed (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
        '    | Traceback (most recent call last):\n    |   File "/w/exp/train.py", line 42, in train\n    |     f()\n'
        "    | TypeError: bad operand\n    +------------------------------------\n", "", "TypeError", HERE),
    Row("torchrun", "code_error", "certain", FAILED,
        '[rank0]: Traceback (most recent call last):\n[rank0]:   File "/w/exp/train.py", line 42, in train\n'
        "[rank0]:     f()\n[rank0]: AssertionError: shapes\n" + python(
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntrain.py FAILED"),
        "", "AssertionError", HERE),
    Row("by-product", "code_error", "certain", FAILED, python("AssertionError") +
        "Exception ignored in: <function Pool.__del__ at 0x7f00>\nTraceback (most recent call last):\n"
        '  File "/usr/lib/python3.9/multiprocessing/pool.py", line 268, in __del__\nTypeError: \'NoneType\' object\n',
        "", "AssertionError", HERE),
    Row("colours", "code_error", "certain", FAILED,
        '\x1b[31mTraceback (most recent call last):\x1b[0m\n  File \x1b[35m"/w/exp/train.py"\x1b[0m, line \x1b[35m42\x1b[0m, '
        "in \x1b[35mtrain\x1b[0m\n    f()\n\x1b[1;31mValueError\x1b[0m: \x1b[35mbad\x1b[0m\n", "", "ValueError", HERE),
    Row("syntax", "code_error", "certain", FAILED,
        '  File "/w/exp/train.py", line 3\n    def f(\n         ^\nSyntaxError: \'(\' was never closed\n', "",
        "SyntaxError", "exp/train.py:3"),
    Row("R", "code_error", "likely", FAILED,
        "Error in solve.default(a) : \n  Lapack routine dgesv: system is exactly singular: U[2,2] = 0\nExecution halted\n"),
    Row("Julia", "code_error", "likely", FAILED,
        "ERROR: LoadError: DimensionMismatch: A has size (3,2), B has size (3,)\nStacktrace:\n [1] mul!(C::Matrix)\n"
        "   @ LinearAlgebra ./matmul.jl:5\nin expression starting at /w/run.jl:7\n"),
    Row("MATLAB", "code_error", "likely", FAILED,
        "Error using  * \nInner matrix dimensions must agree.\n\nError in run (line 7)\n"),
    Row("C++", "code_error", "likely", died(6),
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  mesh is not closed\n"),
    Row("Fortran", "code_error", "likely", ended(2),
        "At line 12 of file solve.f90 (unit = 10)\nFortran runtime error: End of file\n"),
    Row("argparse", "code_error", "likely", ended(2),
        "usage: train.py [-h] [--lr LR]\ntrain.py: error: unrecognized arguments: --foo 3\n"),
    Row("MPI abort", "code_error", "likely", ended(13),
        "ERROR: negative density in cell 4711\n" + "-" * 74 + "\nMPI_ABORT was invoked on rank 3 in communicator "
        "MPI_COMM_WORLD\nwith errorcode 13.\n\nNOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.\n"
        + "-" * 74 + "\n"),
    Row("exit code alone", "code_error", "likely", ended(3), "loss is nan\n"),
    # -- signals
    Row("SIGSEGV", "signal", "likely", died(11), "epoch 1\n"),
    Row("shell saw SIGSEGV", "signal", "likely", {**FAILED, "cause": "signal", "exit_code": 139},
        "bash: line 1: 4242 Segmentation fault      (core dumped) ./solve\n"),
    Row("SIGABRT", "signal", "likely", died(6), "Fatal Python error: Aborted\n"),
    Row("bare SIGKILL", "signal", "guess", KILLED),
    Row("mpirun", "signal", "likely", ended(1),
        "mpirun noticed that process rank 0 with PID 0 on node cn017 exited on signal 11 (Segmentation fault).\n"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_class(row):
    found = classify_facts(row.facts, row.log, row.scheduler)
    assert (found.name, found.confidence) == (row.expected, row.confidence), found
    if row.exception:
        assert (found.exception, found.frame) == (row.exception, row.frame)
    assert BY_NAME[found.name] and json.dumps(found)


def test_every_class_has_a_row():
    recorded = (Path(__file__).parents[1] / "data/why/excerpts.yaml").read_text(encoding="utf-8")
    seen = {row.expected for row in ROWS} | {row["class"] for row in yaml.safe_load(recorded)}
    assert seen == {entry.name for entry in CATALOGUE}


def test_remedies_end_with_a_command_and_attempts_belong_to_what_is_done_without_asking():
    automatic = {"continue", "more_memory", "more_time", "resubmit", "other_nodes"}
    for entry in CATALOGUE:
        assert ": hpc-agent " in entry.remedy
        assert bool(entry.attempts) == (entry.action in automatic)
        assert entry.action in automatic | {"ask", "fix"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ValueError: lr 0.01 at step 1200", "ValueError: lr 1e-05 at step 7"),
        ("cannot read /scratch/u/r1/task_17/part_3.csv", "cannot read /scratch/u/r9/task_4/part_12.csv"),
        ("2024-03-01 12:00:00,123 bad results/3/m.pt", "2025-11-23T01:02:03Z bad results/14/m.pt"),
        ("<Model at 0x7f00aa> on cn017", "<Model at 0x55bc01> on cn4"),
        ("run 123e4567-e89b-12d3-a456-426614174000 gone", "run 00000000-e89b-12d3-a456-426614174fff gone"),
    ],
)
def test_what_differs_between_tasks_is_not_in_the_fingerprint(one, other):
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint("KeyError: 'lr'")


def test_other_exit_codes_of_a_program_are_other_failures():
    three, again, five = (
        classify_facts({**FAILED, "exit_code": code, "message": f"exit code {code}"}, line)
        for code, line in ((3, "fitting 60"), (3, "fitting 61"), (5, "fitting 80"))
    )
    assert {one.name for one in (three, again, five)} == {"code_error"}
    assert three.fingerprint == again.fingerprint != five.fingerprint


def test_base_names_stay_and_the_host_goes():
    assert fingerprint("cannot read '/a/b/model.pt'") == "cannot read '<path>/model.pt'"
    assert fingerprint("node hydra.site lost", "hydra.site") == fingerprint("node medusa lost", "medusa")


def test_same_line_other_parameters_is_one_fingerprint_and_another_line_is_not():
    def of(last, line=42, host="cn017"):
        return classify_facts({**FAILED, "host": host}, python(last, f"/s/{host}/exp/train.py", line)).fingerprint

    assert of("ValueError: lr=0.1 diverged") == of("ValueError: lr=3 diverged", host="cn018")
    assert of("ValueError: lr=0.1 diverged") == "code_error|ValueError|train.py:42 in train|lr=<n> diverged"
    assert of("ValueError: lr=0.1 diverged") != of("ValueError: lr=0.1 diverged", line=43)


def test_evidence_names_its_source():
    sources = [
        {item["source"] for item in classify_facts(row.facts, row.log, row.scheduler).evidence}
        for row in ROWS
        if row.name in ("sacct timeout", "sklearn", "time limit")
    ]
    assert sources == [{"accounting"}, {"scheduler_log", "record"}, {"log", "record"}]


def test_a_progress_bar_is_one_line():
    bar = "\r".join(f"epoch: {n}%|####" for n in range(100))
    assert classify_facts(ended(2), f"bad input\n{bar}\ndiverged\n").line == "diverged"


WORDS = st.sampled_from([
    "/", "a/b/c.py", "./x", "~/", "<path>", "<n>", "2024-01-01", "12:30:00", "0xff", "deadbeef01", "-1.5e3", "x.y", " ",
    "\x1b[31m", 'File "a.py", line 3, in f', "Traceback (most recent call last):", "\n", "  ", "Error: ", "CUDA", "é",
])  # fmt: skip
TEXT = st.one_of(
    st.text(), st.lists(st.one_of(WORDS, st.text(max_size=5))).map("".join),
    st.binary().map(lambda data: data.decode("utf-8", "replace")),
)  # fmt: skip
VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(), st.just([]),
    st.sampled_from(["signal", "terminated", "code_error", "environment", "no_output", "timeout", "exit", "no_record"]),
)  # fmt: skip
KEYS = ("cause", "message", "exit_code", "signal", "host", "evidence", "max_rss_mb", "mem_mb", "seconds",
        "walltime_sec", "checkpoint")  # fmt: skip


@given(TEXT | st.lists(WORDS | TEXT, max_size=80).map("".join))
def test_fingerprints_are_short_and_settled(text):
    once = fingerprint(text)
    assert len(once) <= 200
    assert fingerprint(once) == once


@given(st.dictionaries(st.sampled_from(KEYS), VALUE), TEXT, TEXT)
def test_nothing_raises(facts, log, scheduler):
    found = classify_facts(facts, log, scheduler)
    assert BY_NAME[found.name]
    assert found.confidence in ("certain", "likely", "guess")
    assert len(found.line) <= 300 and len(found.fingerprint) <= 200
    assert json.dumps(found)


HOSTILE = [
    "a", "/", "a/", "0", "-", "{", " ", "\n", "\r", "\x1b[", "\x1b[0;", "\x1b]", "0x", "1:", "deadbeef", "execv ", "sh: ",
    "*** JOB 1 ON ", "RESOURCE_EXHAUSTED ", "OOM when allocating ", '  File "', "Traceback (most recent call last):\n",
    '  File "a", line 1, in f\n', "x.", "<n>", "Error in ", "env: ", "(pid 1 ", "Jan 1 ", "2024-01-01 ", "a: ",
    "Error in f :\n", "A\n", '  File "a", line 1, in f\nE: x\n',
]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=3).map("".join))
def test_a_hostile_tail_is_read_to_its_end(unit):
    """A pattern that backtracks would meet the time limit of a test; benchmarks/reading.py measures."""
    tail = (unit * (1 + (64 << 10) // len(unit)))[: 64 << 10]
    classify_facts(FAILED, tail, tail)
    fingerprint(tail)


@pytest.mark.parametrize(
    ("executor", "line", "told"),
    [
        (
            "/opt/py/bin/python3.9 .hpc/cli.py",
            "ModuleNotFoundError: No module named 'numpy.linalg'",
            "/opt/py/bin/python3.9",
        ),
        ("A=1 python3 train.py", "/usr/bin/python3: No module named pkg", "python3, which has no module pkg"),
        ("bash run.sh", "ModuleNotFoundError: No module named 'numpy'", "install the package"),
        ("python3 x.py", "Error in library(lme4) : there is no package called 'lme4'", "install the package"),
    ],
)
def test_the_remedy_for_a_missing_package_names_the_python(executor, line, told):
    found = Classification("missing_module", "certain", [], "", None, None, line)
    remedy = remedy_of(found, executor)
    assert told in remedy
    assert remedy.endswith(": hpc-agent resubmit --run-id RUN --classes missing_module"), (
        "the same submit submits nothing"
    )


@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("/scratch/u/hpc-agent/repo-1a2b/runs/repo-3c4d/work/job.py", "job.py:7 in f"),
        ("/scratch/u/hpc-agent/repo-1a2b/runs/repo-3c4d/work/src/model/train.py", "model/train.py:7 in f"),
        ("/opt/conda/lib/python3.9/site-packages/numpy/core/fromnumeric.py", "core/fromnumeric.py:7 in f"),
        ("job.py", "job.py:7 in f"),
    ],
)
def test_a_frame_names_the_file_as_the_repo_has_it(path, frame):
    log = f'Traceback (most recent call last):\n  File "{path}", line 7, in f\n    x\nKeyError: 1\n'
    assert classify_facts(FAILED, log).frame == frame
