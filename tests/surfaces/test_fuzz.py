"""Ten thousand odd calls of the command line: each is one envelope with the right exit code, and none is ``internal``.

Other seeds: ``HPC_FUZZ_SEED=123 pytest tests/surfaces/test_fuzz.py``; one call once more: see tests/fuzz.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpc_agent.cli.parse import load_catalogue

SEED = int(os.environ.get("HPC_FUZZ_SEED", "1"))
LIMIT_SEC = 1200
FUZZ = Path(__file__).resolve().parents[1] / "fuzz.py"


def fuzz(folder: Path, workers: int, calls: int, *options: str) -> Counter[str]:
    """Make ``calls`` calls, shared between processes that have a seed each; fail with the calls that had a wrong answer."""
    running = []
    for number in range(workers):
        place = folder / str(number)
        place.mkdir()
        seed = SEED * 1000 + number
        words = [
            sys.executable,
            str(FUZZ),
            "--seed",
            str(seed),
            "--calls",
            str(calls // workers),
            "--folder",
            str(place),
        ]
        files = [open(folder / f"{number}.{name}", "w+") for name in ("out", "err")]
        child = subprocess.Popen([*words, *options], stdout=files[0], stderr=files[1], start_new_session=True)
        running.append((seed, child, files))
    faults, ended, called = [], 0, Counter()
    try:
        for _, child, _ in running:
            child.wait(LIMIT_SEC)
    finally:
        for _, child, _ in running:
            child.kill()
    for seed, child, (out, err) in running:
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out]
        assert child.returncode == 0, f"seed {seed}: {err.read()[-3000:]}"
        print(f"seed {seed}: {lines[-1]}")
        ended += sum(lines[-1]["outcomes"].values())
        called.update(lines[-1]["called"])
        faults += [
            f"--seed {seed} --first {line['call']} --calls 1: {json.dumps(line, indent=1)}" for line in lines[:-1]
        ]
    assert not faults, f"{len(faults)} faults, the first: {faults[0]}"
    assert ended == calls
    return called


@pytest.mark.local
@pytest.mark.slow(reason="10,000 calls, in two processes")
@pytest.mark.timeout(1500)  # 100 s of processor time, in two processes
def test_ten_thousand_odd_calls(tmp_path):
    called = fuzz(tmp_path, 2, 10_000)
    assert min(called[verb] for verb in load_catalogue()) >= 10, "each verb is called"


@pytest.mark.local
@pytest.mark.timeout(600)
def test_odd_calls_as_processes(tmp_path):
    """The same through real processes: what the interpreter writes at its end, and descriptors that are inherited, count too."""
    fuzz(tmp_path, 2, 200, "--processes")
