"""Log tails as they really look, and the class that each must get."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.models.mapreduce.runtime.classify import classify, fingerprint
from hpc_agent.models.mapreduce.runtime.failure_classes import CATALOGUE

TORCH = """Traceback (most recent call last):
  File "/scratch1/ada/hpc-agent/x/runs/r/work/train.py", line 88, in <module>
    main()
  File "/scratch1/ada/hpc-agent/x/runs/r/work/lib/model.py", line 41, in forward
    return self.net(x)
torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 39.59 GiB total capacity)
"""
CHAINED = """Traceback (most recent call last):
  File "a.py", line 3, in load
    open(path)
FileNotFoundError: [Errno 2] No such file or directory: 'cache.bin'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/w/train.py", line 9, in fit
    raise ValueError("horizon 25 is not in the index")
ValueError: horizon 25 is not in the index
"""
NUMPY = """Traceback (most recent call last):
  File "/w/big.py", line 2, in <module>
    np.zeros((1 << 20, 1 << 14))
numpy.core._exceptions._ArrayMemoryError: Unable to allocate 128. GiB for an array with shape (1048576, 16384)
"""
MODULE = """Traceback (most recent call last):
  File "/w/train.py", line 1, in <module>
    import xgboost
ModuleNotFoundError: No module named 'xgboost'
"""
R_ERROR = (
    "Error in solve.default(A) : \n  system is exactly singular: U[2,2] = 0\nCalls: fit -> solve\nExecution halted\n"
)
WARNED = "ls: cannot access 'old.csv': No such file or directory\n" + "epoch done\n" * 40 + CHAINED

CODE = {"cause": "code_error", "exit_code": 1, "message": "exit code 1"}
KILLED = {"cause": "signal", "signal": 9, "message": "killed by signal 9"}

CASES = [
    ("gpu_memory", CODE, TORCH, ""),
    ("gpu_memory", CODE, "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate", ""),
    ("gpu_memory", CODE, "RuntimeError: HIP out of memory. Tried to allocate 20.00 MiB", ""),
    ("out_of_memory", {"cause": "out_of_memory", "evidence": "accounting", "raw": "OUT_OF_MEMORY 0:125"}, "epoch 3", ""),
    ("out_of_memory", KILLED, "", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.batch."),
    ("out_of_memory", KILLED, "", "slurmstepd: error: Exceeded job memory limit at some point."),
    ("out_of_memory", {**KILLED, "max_rss_mb": 63.0, "mem_mb": 64}, "epoch 3", ""),
    ("out_of_memory", CODE, NUMPY, ""),
    ("out_of_memory", CODE, "MemoryError\n", ""),
    ("out_of_memory", CODE, 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nMemoryError\n', ""),
    ("out_of_memory", {**CODE, "exit_code": 134}, "terminate called after throwing an instance of 'std::bad_alloc'", ""),
    ("out_of_memory", CODE, "Error: cannot allocate vector of size 7.5 Gb\nExecution halted", ""),
    ("walltime", {"cause": "timeout", "evidence": "accounting", "raw": "TIMEOUT 0:0"}, "epoch 3", ""),
    ("walltime", {"cause": "terminated"}, "", "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***"),
    ("walltime", {"cause": "terminated", "seconds": 3590, "walltime_sec": 3600}, "epoch 3", ""),
    ("preempted", {"cause": "terminated"}, "", "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***"),
    ("preempted", {"cause": "preempted", "evidence": "accounting"}, "", ""),
    ("node_failure", {"cause": "node_failure", "evidence": "accounting"}, "epoch 3", ""),
    ("node_failure", CODE, "OSError: [Errno 116] Stale file handle: '/u/data/x'", ""),
    ("node_failure", CODE, "OSError: [Errno 5] Input/output error", ""),
    ("cancelled", {"cause": "cancelled", "evidence": "accounting", "raw": "CANCELLED by 1001 0:0"}, "", ""),
    ("never_started", {"cause": "never_started", "evidence": "absence"}, "", ""),
    ("no_record", {"cause": "no_record", "evidence": "accounting"}, "", ""),
    ("no_output", {"cause": "no_output", "message": "metrics.json is missing"}, "done", ""),
    ("checkpointed", {"cause": "checkpointed", "exit_code": 130}, "saved step 17", ""),
    ("environment", {"cause": "environment", "message": "module load python/9 failed"}, "", ""),
    ("environment", CODE, "", "EnvironmentNameNotFound: Could not find conda environment: torch2"),
    ("environment", CODE, "Lmod has detected the following error:  The following module(s) are unknown: \"gcc/99\"", ""),
    ("missing_module", CODE, MODULE, ""),
    ("missing_module", CODE, "Error in library(dplyr) : there is no package called 'dplyr'\nExecution halted", ""),
    ("missing_module", {**CODE, "exit_code": 127}, "./sim: error while loading shared libraries: libmkl.so: cannot open shared object file: No such file or directory", ""),
    ("command_not_found", {**CODE, "exit_code": 127}, "/bin/bash: line 1: julia: command not found", ""),
    ("command_not_found", {**CODE, "exit_code": 127}, "", ""),
    ("missing_file", CODE, 'Traceback (most recent call last):\n  File "a.py", line 2, in f\nFileNotFoundError: [Errno 2] No such file or directory: \'data/x.csv\'', ""),
    ("missing_file", {**CODE, "exit_code": 2}, "python3: can't open file '/w/trian.py': [Errno 2] No such file or directory", ""),
    ("permission", CODE, 'Traceback (most recent call last):\n  File "a.py", line 2, in f\nPermissionError: [Errno 13] Permission denied: \'/data\'', ""),
    ("permission", {**CODE, "exit_code": 126}, "/bin/bash: line 1: ./run.sh: Permission denied", ""),
    ("disk_full", CODE, "OSError: [Errno 28] No space left on device", ""),
    ("disk_full", CODE, "rsync: write failed on \"x\": Disk quota exceeded (122)", ""),
    ("disk_full", {"cause": "exit", "exit_code": 28, "evidence": "accounting"}, "", ""),
    ("code_error", CODE, CHAINED, ""),
    ("code_error", CODE, WARNED, ""),
    ("code_error", CODE, R_ERROR, ""),
    ("code_error", CODE, "ERROR: LoadError: DomainError with -1.0:", ""),
    ("code_error", {**CODE, "exit_code": 7}, "", ""),
    ("code_error", CODE, "sklearn.exceptions.NotFittedError: This Ridge instance is not fitted yet.", ""),
    ("signal", {"cause": "signal", "signal": 11, "message": "killed by signal 11"}, "Segmentation fault (core dumped)", ""),
    ("signal", KILLED, "epoch 3", ""),
    ("unknown", {"cause": "unknown"}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "facts", "log", "scheduler_log"), CASES)
def test_class(name, facts, log, scheduler_log):
    assert classify(facts, log, scheduler_log)["class"] == name


def test_every_class_of_the_catalogue_is_reached():
    assert {kind.name for kind in CATALOGUE} == {name for name, *_ in CASES}


def test_the_last_exception_of_a_chain_counts_with_its_frame():
    found = classify(CODE, CHAINED)
    assert (found["exception"], found["frame"]) == ("ValueError", "/w/train.py:9 in fit".lstrip("/"))
    assert found["confidence"] == "certain"
    assert found["evidence"][0]["source"] == "log"


def test_other_parameters_same_place_are_the_same_failure():
    log = CHAINED.replace("horizon 25", "horizon 5").replace("/w/", "/scratch/7/r/")
    assert classify(CODE, CHAINED)["fingerprint"].replace("w/", "") == classify(CODE, log)["fingerprint"].replace(
        "r/", ""
    )
    assert classify(CODE, CHAINED)["fingerprint"] != classify(CODE, CHAINED.replace("line 9", "line 12"))["fingerprint"]


@given(st.text(max_size=400))
def test_fingerprint_is_short_and_stable(text):
    once = fingerprint(text)
    assert len(once) <= 200
    assert fingerprint(once) == once


FACTS = st.fixed_dictionaries(
    {},
    optional={
        "cause": st.sampled_from(["signal", "code_error", "exit", "unknown", "timeout", "terminated", None, "new"]),
        "exit_code": st.one_of(st.none(), st.integers(-300, 300)),
        "signal": st.one_of(st.none(), st.integers(0, 70)),
        "message": st.one_of(st.none(), st.text(max_size=50)),
        "host": st.one_of(st.none(), st.text(max_size=5)),
        "evidence": st.sampled_from([None, "accounting", "absence"]),
        "max_rss_mb": st.one_of(st.none(), st.floats()),
        "mem_mb": st.one_of(st.none(), st.integers()),
        "seconds": st.one_of(st.none(), st.floats()),
        "walltime_sec": st.one_of(st.none(), st.integers()),
    },
)


@given(FACTS, st.text(max_size=600), st.text(max_size=200))
def test_anything_gets_a_class(facts, log, scheduler_log):
    assert classify(facts, log, scheduler_log)["class"] in {kind.name for kind in CATALOGUE}


@pytest.mark.parametrize(
    "junk", ["a" * 65536, "/" * 65536, "a/" * 32768, "1" * 65536, " " * 65536, "a.b." * 16384, "0x" * 32768]
)
def test_a_huge_line_takes_no_time(junk):
    for _ in range(3):
        classify(CODE, junk, junk)
