"""Submit, watch and reduce many tasks on a SLURM 24.11 that limits requests (a bucket of 40 a user): calls, tokens, refusals.

    python -m benchmarks.newer_slurm [--tasks 10000] [--unpacked 0] [--json]

Needs ``sudo testbed/slurm24-up`` and the right to read that bed's slurmctld.log. A token is a request of the user that slurmctld
has received, by ``sdiag``. slurmctld logs a refused one; the client then waits and asks again by itself, so that it shows
nowhere else. At the end more requests are sent than the bucket has: where the log says nothing then, the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BED = Path(os.environ.get("TESTBED_DIR", "/tmp/hpc-testbed")) / "slurm24"
HOST, USER = "slurm24-testbed", "hpcuser24"
INSTALL = "sudo testbed/slurm24-up"
LOG = BED / "log/slurm/slurmctld.log"
REFUSED = "RPC rate limit exceeded"
BUCKET, REFILL_A_SEC = 40, 2
PACK = 500
PROGRAM = Path(sys.executable).with_name("hpc-agent")


@dataclass(frozen=True)
class Step:
    """What one verb cost: SSH commands, the user's requests to slurmctld, those that it refused."""

    what: str
    tasks: int
    seconds: float
    ssh_commands: int
    tokens: int
    throttled: int


class Bed:
    """The bed's login node and its slurmctld."""

    def __init__(self, home: Path) -> None:
        self.scratch = BED / "scratch" / USER / f"b-{uuid.uuid4().hex[:8]}"
        self.home, self.calls = home, home / "calls"
        (home / ".hpc-agent").mkdir(parents=True)
        self._count_ssh(home / "bin")
        entry = {
            "host": HOST, "user": USER, "ssh_config": str(BED / "etc/ssh_config"), "scheduler": "slurm",
            "scratch": str(self.scratch), "python": "/usr/bin/python3", "default_partition": "batch", "default_mem_mb": 64,
            "constraints": {"max_array_size": 2000, "max_concurrent_jobs": 10000, "est_spin_up": "1s"},
        }  # fmt: skip
        (home / ".hpc-agent/clusters.yaml").write_text(json.dumps({"newer": entry}))

    def _count_ssh(self, folder: Path) -> None:
        folder.mkdir()
        counting = folder / "ssh"  # rsync calls it too; a question about the connection (-O) sends nothing
        counting.write_text(
            f'#!/bin/sh\ncase " $* " in *" -O check "*) ;; *) echo x >>{self.calls};; esac\nexec /usr/bin/ssh "$@"\n'
        )
        counting.chmod(0o755)

    def ssh(self, command: str, timeout: float = 120) -> str:
        words = ["ssh", "-F", str(BED / "etc/ssh_config"), f"{HOST}-direct", command]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise SystemExit(f"{HOST} does not answer ({done.stderr.strip()[-300:]}): {INSTALL}")
        return done.stdout

    def tokens(self) -> int:
        """The user's requests so far; this question is none of the measured ones, and counts itself."""
        users = json.loads(self.ssh("sdiag --json"))["statistics"]["rpcs_by_user"]
        return sum(int(row["count"]) for row in users if row["user"] == USER)

    @staticmethod
    def refused() -> int:
        return LOG.read_text(errors="replace").count(REFUSED)

    def measure(self, what: str, tasks: int, repo: Path, *words: str) -> tuple[Step, dict[str, Any]]:
        before, refused, calls = self.tokens(), self.refused(), self._ssh_commands()
        begun = time.monotonic()
        data = self.run(repo, *words)
        seconds = time.monotonic() - begun
        calls = self._ssh_commands() - calls
        step = Step(what, tasks, round(seconds, 2), calls, self.tokens() - before - 1, self.refused() - refused)
        return step, data

    def _ssh_commands(self) -> int:
        return self.calls.read_text().count("x") if self.calls.exists() else 0

    def run(self, repo: Path, *words: str) -> dict[str, Any]:
        env = {"HOME": str(self.home), "PATH": f"{self.home}/bin:{PROGRAM.parent}:/usr/bin:/bin"}
        done = subprocess.run(
            [PROGRAM, *words], cwd=repo, env=env, capture_output=True, text=True, timeout=7200, check=False
        )
        answer = json.loads((done.stdout.splitlines() or ["{}"])[-1])
        if not answer.get("ok"):
            raise SystemExit(f"{shlex.join(words)}: {done.stdout}{done.stderr[-2000:]}")
        return dict(answer["data"])

    def flood(self) -> int:
        """Send more requests at once than the bucket has. Returns the refusals that slurmctld logged."""
        before, end = self.refused(), time.monotonic() + 60
        many = 2 * BUCKET
        self.ssh(f"for i in $(seq {many}); do squeue -h >/dev/null 2>&1 & done; wait")
        while self.refused() == before and time.monotonic() < end:
            time.sleep(0.5)
        return self.refused() - before


def why_not() -> str:
    """Why this machine cannot be measured; empty when it can. Ends with the command that mends it."""
    if not (BED / "etc/ssh_config").exists():
        return f"the SLURM 24.11 is not installed: {INSTALL}"
    if not os.access(LOG, os.R_OK):
        return f"{LOG} cannot be read: be root, and {INSTALL}"
    words = ["ssh", "-F", str(BED / "etc/ssh_config"), f"{HOST}-direct", "sinfo -h"]
    try:
        up = (
            subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        up = False
    return "" if up else f"the SLURM 24.11 is not up: {INSTALL}"


def measure(tasks: int = 10_000, pack: int = PACK) -> dict[str, Any]:
    """Submit, watch and aggregate ``tasks`` tasks that each write a number. Returns the steps, and what shows that it counts."""
    with tempfile.TemporaryDirectory(prefix="newer-slurm-") as name:
        bed = Bed(Path(name))
        repo = Path(name, "repo")
        (repo / ".hpc").mkdir(parents=True)
        (repo / ".hpc/tasks.py").write_text(
            f"def total():\n    return {tasks}\n\n\ndef resolve(i):\n    return {{'x': i}}\n"
        )
        executor = """echo "{\\"y\\": $X}" > "$HPC_RESULT_DIR/metrics.json\""""
        time.sleep(BUCKET / REFILL_A_SEC)  # a full bucket, whatever came before
        packing = ["--pack", str(pack)]
        steps, submitted = (
            [],
            ["submit", "--cluster", "newer", "--executor", executor, "--walltime-sec", "3600", *packing],
        )
        try:
            for words in (submitted, ["status"], ["monitor-flow"], ["status"], ["aggregate"]):
                step, data = bed.measure(words[0], tasks, repo, *words)
                steps.append(step)
                if words[0] == "monitor-flow" and data["last_status"]["complete"] != tasks:
                    raise SystemExit(f"not every task is complete: {data['last_status']}")
                if words[0] == "aggregate" and data["included_tasks"] != tasks:
                    raise SystemExit(f"aggregate has {data['included_tasks']} of {tasks} tasks")
            flooded = bed.flood()
        finally:
            bed.ssh(f"rm -rf {shlex.quote(str(bed.scratch))}", timeout=600)
    if not flooded:
        raise SystemExit(
            f"{2 * BUCKET} requests at once, and slurmctld.log says nothing: the limit is off, nothing was measured"
        )
    return {
        "tasks": tasks, "pack": pack, "steps": [asdict(step) for step in steps], "refused_of_a_flood": flooded,
        "ssh_commands": sum(step.ssh_commands for step in steps), "tokens": sum(step.tokens for step in steps),
        "throttled": sum(step.throttled for step in steps),
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    print(f"{found['tasks']:,} tasks, {found['pack']} in an element, bucket {BUCKET}")
    print(f"{'verb':<14}{'seconds':>9}{'ssh':>6}{'tokens':>8}{'throttled':>11}")
    for step in found["steps"]:
        print(
            f"{step['what']:<14}{step['seconds']:>9}{step['ssh_commands']:>6}{step['tokens']:>8}{step['throttled']:>11}"
        )
    print(f"{'all':<23}{found['ssh_commands']:>6}{found['tokens']:>8}{found['throttled']:>11}")
    print(f"of {2 * BUCKET} requests at once, slurmctld logged {found['refused_of_a_flood']} refusals")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.newer_slurm", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the packed run")
    parser.add_argument("--unpacked", type=int, default=0, help="tasks of a second run, an array element each")
    parser.add_argument("--json", action="store_true", help="print what was found as one line of JSON")
    chosen = parser.parse_args(words)
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 2
    found = [measure(chosen.tasks)]
    found += [measure(chosen.unpacked, pack=1)] if chosen.unpacked else []
    if chosen.json:
        print(json.dumps(found))
    for one in [] if chosen.json else found:
        show(one)
    return 1 if any(one["throttled"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
