"""Ten thousand odd calls of the command line: each is one envelope with the right exit code, and none is ``internal``.

Other seeds: ``HPC_FUZZ_SEED=123 pytest tests/surfaces/test_fuzz.py``; one call once more: see tests/fuzz.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SEED = int(os.environ.get("HPC_FUZZ_SEED", "1"))
FUZZ = Path(__file__).resolve().parents[1] / "fuzz.py"


def fuzz(folder: Path, workers: int, calls: int, *options: str) -> None:
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
    faults, ended = [], 0
    for seed, child, (out, err) in running:
        child.wait()
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out]
        assert child.returncode == 0, f"seed {seed}: {err.read()[-3000:]}"
        print(f"seed {seed}: {lines[-1]}")
        ended += sum(count for name, count in lines[-1]["outcomes"].items() if not name.startswith("ms "))
        faults += [
            f"--seed {seed} --first {line['call']} --calls 1: {json.dumps(line, indent=1)}" for line in lines[:-1]
        ]
    assert not faults, f"{len(faults)} faults, the first: {faults[0]}"
    assert ended == calls


@pytest.mark.local
@pytest.mark.slow(reason="10,000 calls, in two processes")
@pytest.mark.timeout(1500)  # 80 s on a quiet machine with two cores
def test_ten_thousand_odd_calls(tmp_path):
    fuzz(tmp_path, 2, 10_000)


@pytest.mark.local
@pytest.mark.timeout(600)
def test_odd_calls_as_processes(tmp_path):
    """The same through real processes: what the interpreter writes at its end, and descriptors that are inherited, count too."""
    fuzz(tmp_path, 2, 200, "--processes")
