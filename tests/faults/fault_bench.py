"""One cluster and one private home for one try of a fault, and the judge who knows from a witness what really ran."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import experiment
import testbed
from fault_processes import end_masters, end_tree, node_processes
from fault_scheduler import jobs_of
from faults import Outcome

import hpc_agent
from hpc_agent.errors import EXIT_CODES
from hpc_agent.node.shared.ranges import decode_ranges
from hpc_agent.ops.submit.new_run import BYTES_SENT_AT_ONCE

SETTLE_SEC, COMMAND_LIMIT_SEC = 2, 5
TERMINAL = ("complete", "failed", "abandoned")
LEAKS = ("HPC_", "SLURM_", "SBATCH_", "SGE_", "SSH_", "XDG_", "PYTEST_", "PYTHONPATH")

# Held while a task runs, so that two at once are seen; a task that was killed lets go by itself.
WORK = """exec 9>>{witness}.$X
flock -n 9 || echo "$X overlap" >>{witness}
echo "$X start" >>{witness}
{middle}
echo "{{\\"y\\": $X}}" >"$HPC_RESULT_DIR/metrics.json"
echo "$X done" >>{witness}
"""
INIT = """export HPC_SETTLE_SEC={settle} HPC_SCHEDULER_TIMEOUT_SEC={limit} HPC_FAULT_BENCH={token}
export PATH={lies}:$PATH
"""


@dataclass
class Answer:
    """One call of the command line; ``code`` is None when it did not end in time."""

    code: int | None
    envelope: dict[str, Any]
    stderr: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0 and bool(self.envelope.get("ok"))

    @property
    def data(self) -> dict[str, Any]:
        return self.envelope.get("data") or {}

    @property
    def error(self) -> str:
        return str(self.envelope.get("error_code", ""))

    def __str__(self) -> str:
        return f"exit {self.code}: {json.dumps(self.envelope)[:400]}"


@dataclass
class Experiment:
    """A repo whose tasks write into ``witness`` what they do."""

    repo: Path
    witness: Path
    tasks: int
    flags: tuple[str, ...] = ()
    may_fail: frozenset[int] = frozenset()
    calls: list[str] = field(default_factory=list)

    def lines(self, word: str) -> Counter[int]:
        """How often each task wrote ``start``, ``done`` or ``overlap``."""
        words = [line.split() for line in self.witness.read_text().splitlines()]
        return Counter(int(line[0]) for line in words if line[1:] == [word])

    @property
    def done(self) -> int:
        return len(self.lines("done"))


class Bench:
    """``with Bench("slurm-ssh", folder, seed) as bench``: everything it made is gone afterwards."""

    def __init__(self, site: str, folder: Path, seed: str) -> None:
        self.folder, self.found, self.dice = folder, Outcome(), random.Random(seed)
        self.undo = contextlib.ExitStack()
        self.token = f"f{os.urandom(5).hex()}"
        self.site = testbed.make_site(site, folder)
        if self.site.why_not:
            raise RuntimeError(f"{site}: {self.site.why_not}")
        self.undo.callback(self.site.clean_up)
        self.scratch = self.site.scratch
        self.lies = _open_folder(self.scratch / "lies")
        _open_folder(self.scratch / "seen")
        home = folder / "home"
        home.mkdir(mode=0o700)
        sockets = tempfile.mkdtemp(prefix="hf", dir="/tmp")
        self.undo.callback(shutil.rmtree, sockets, ignore_errors=True)
        self.undo.callback(end_masters, sockets)
        self.sockets = sockets
        self.undo.callback(self._end_node_side)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
        source = str(Path(hpc_agent.__file__).parents[1])
        self.env = {**kept, "HOME": str(home), "PYTHONPATH": source, "XDG_RUNTIME_DIR": sockets}
        self.clusters()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    @property
    def slurm(self) -> bool:
        return self.site.scheduler == "slurm"

    def _end_node_side(self) -> None:
        for pid in node_processes(self.token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def clusters(self, init: str = "", **changes: Any) -> None:
        """Write clusters.yaml and the shell file that is sourced before every remote command. Arrays hold two tasks."""
        path = self.scratch / "init.sh"
        text = INIT.format(settle=SETTLE_SEC, limit=COMMAND_LIMIT_SEC, token=self.token, lies=self.lies)
        path.write_text(text + init)
        limits = {**self.site.cluster["constraints"], "max_array_size": 2}
        config = self.folder / "clusters.yaml"
        config.write_text(self.site.clusters_yaml(**{"shell_init": str(path), "constraints": limits, **changes}))
        self.env["HPC_CLUSTERS_CONFIG"] = str(config)

    def experiment(
        self,
        tasks: int = 4,
        middle: str = ":",
        flags: Collection[str] = (),
        may_fail: Collection[int] = (),
        large: bool = False,
    ) -> Experiment:
        """A new repo; ``middle`` is what a task does between ``start`` and ``done``, ``may_fail`` who has a reason to fail.

        ``large``: with more files than travel with the request, so that submit prepares, pushes and submits.
        """
        name = f"{self.token}n{len(list(self.folder.iterdir()))}"
        witness = self.scratch / "seen" / name
        witness.touch()
        witness.chmod(0o666)
        files = {"work.sh": WORK.format(witness=witness, middle=middle)}
        files |= {"large": "x" * (BYTES_SENT_AT_ONCE + 1)} if large else {}
        repo = experiment.make_repo(self.folder / name, [{"x": x} for x in range(tasks)], **files)
        return Experiment(repo, witness, tasks, tuple(flags), frozenset(may_fail))

    # -- the command line ----------------------------------------------------------------------------------------

    def client(self, exp: Experiment, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """A client in the background, in a session of its own."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
        command = [sys.executable, "-m", "hpc_agent", *words]
        return subprocess.Popen(
            command, cwd=exp.repo, env={**self.env, **(env or {})}, start_new_session=True, **streams
        )

    def call(
        self,
        exp: Experiment,
        *words: str,
        limit: float = 90,
        env: Mapping[str, str] | None = None,
        before: Collection[str] = (),
    ) -> Answer:
        """One verb, checked: one line of JSON, the right exit code, no bug, nothing said that the witness denies."""
        command = [*before, sys.executable, "-m", "hpc_agent", *words]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            client = subprocess.Popen(
                command, cwd=exp.repo, env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
            try:
                code: int | None = client.wait(limit)
            except subprocess.TimeoutExpired:
                end_tree(client.pid)
                client.wait()
                self.found.wrong.append(f"{words[0]} did not end within {limit:.0f} s")
                code = None
            out.seek(0)
            err.seek(0)
            return self.checked(exp, words[0], code, out.read().decode(), err.read().decode(errors="replace"))

    def checked(self, exp: Experiment, verb: str, code: int | None, out: str, err: str) -> Answer:
        answer = Answer(code, {}, err[-3000:])
        if code is None:
            return answer
        try:
            answer.envelope = json.loads(out)
        except ValueError:
            self.found.wrong.append(f"{verb}: stdout is not JSON: {out[-300:]!r} {err[-300:]!r}")
            return answer
        exp.calls.append(f"{verb}: {answer}")
        expected = 0 if answer.envelope["ok"] else EXIT_CODES[answer.envelope["category"]]
        if out.count("\n") != 1 or code != expected or answer.error == "internal":
            self.found.wrong.append(f"{verb}: {answer} {answer.envelope.get('details')}")
        if verb in ("status", "monitor-flow") and answer.ok:
            self._believe(exp, answer.data)
        return answer

    def _believe(self, exp: Experiment, data: dict[str, Any]) -> None:
        """What a look said against what the witness says a moment later: done only grows."""
        counts, done = data["last_status"], exp.done
        if counts["complete"] > done:
            self.found.wrong.append(f"{counts['complete']} complete, but only {done} tasks came to their end")
        if counts["failed"] > len(exp.may_fail) or (data["lifecycle_state"] in TERMINAL[1:] and not exp.may_fail):
            self.found.wrong.append(
                f"{data['lifecycle_state']}, {counts['failed']} failed without a reason: {data['samples']}"
            )
        if data["lifecycle_state"] == "complete" and done < exp.tasks:
            self.found.wrong.append(f"lifecycle complete with {done} of {exp.tasks} done")

    # -- verbs ---------------------------------------------------------------------------------------------------

    def submit_words(self, exp: Experiment) -> tuple[str, ...]:
        return ("submit", "--cluster", testbed.CLUSTER, "--executor", "bash work.sh", *exp.flags)

    def submit(self, exp: Experiment, **options: Any) -> Answer:
        return self.call(exp, *self.submit_words(exp), **options)

    def submit_until(self, exp: Experiment, limit: float = 100, *, also: Collection[str] = ()) -> Answer:
        """The same command again until it is accepted. Only errors of the cluster or the network may come before it."""
        end = time.monotonic() + limit
        while True:
            answer = self.submit(exp, limit=max(60, limit))
            if answer.ok or time.monotonic() > end:
                break
            if answer.code == 1 and answer.error not in ("precondition_failed", *also):
                self.found.wrong.append(f"submit blames the user: {answer}")
                break
            time.sleep(0.5)
        if not answer.ok:
            self.found.losses.append(f"submit was never accepted: {answer}")
        return answer

    def status(self, exp: Experiment, **options: Any) -> Answer:
        return self.call(exp, "status", **options)

    def finish(self, exp: Experiment, limit: float = 90) -> Answer:
        """Watch until the run has ended; errors of the network or the cluster are waited out."""
        end = time.monotonic() + limit
        while True:
            left = max(1.0, min(30.0, end - time.monotonic()))
            answer = self.call(exp, "monitor-flow", "--wall-clock-budget-seconds", f"{left:.0f}", limit=left + 60)
            if answer.data.get("lifecycle_state") in TERMINAL or time.monotonic() > end:
                return answer
            if not answer.ok:
                time.sleep(1)

    # -- the truth -----------------------------------------------------------------------------------------------

    def judge(self, exp: Experiment, *, failed: Collection[int] = (), attempts: int = 1, jobs: int = 1) -> Outcome:
        """Watch the run to its end, give the command again, and hold everything against witness and scheduler."""
        outcome = Outcome()
        answer = self.finish(exp)
        state = answer.data.get("lifecycle_state", str(answer))
        wanted = "failed" if failed else "complete"
        if state != wanted:
            outcome.wrong.append(f"the run ended as {state} instead of {wanted}: {self._story(exp, answer)}")
        look = self.status(exp)
        if look.ok:
            self._compare(exp, look.data, set(failed), outcome)
        again = self.submit(exp)
        if not again.data.get("deduped"):
            outcome.wrong.append(f"the command after the end was not deduped: {again}")
        self._count(exp, set(failed), attempts, jobs, outcome)
        return outcome

    def _compare(self, exp: Experiment, data: dict[str, Any], failed: set[int], outcome: Outcome) -> None:
        complete, ended_well = data["last_status"]["complete"], set(exp.lines("done"))
        said = set(decode_ranges(data["failed_tasks"]["ranges"]))
        if complete != exp.tasks - len(failed):
            outcome.losses.append(f"{complete} of {exp.tasks} complete: {json.dumps(data)[:600]}")
        if said & ended_well:
            outcome.wrong.append(
                f"tasks {sorted(said & ended_well)} failed, but the witness saw them end: {data['samples']}"
            )

    def _count(self, exp: Experiment, failed: set[int], attempts: int, jobs: int, outcome: Outcome) -> None:
        starts = exp.lines("start")
        outcome.losses += [f"task {x} never ran" for x in range(exp.tasks) if not starts[x] and x not in failed]
        outcome.duplicates += [f"task {x} ran {n} times" for x, n in starts.items() if n > attempts]
        outcome.duplicates += [f"task {x} ran twice at the same time" for x in exp.lines("overlap")]
        if self.site.scheduler != "local":
            for name, ids in jobs_of(self.site.scheduler, exp.repo.name).items():
                if len(ids) > jobs:
                    outcome.duplicates.append(f"array {name} has the jobs {', '.join(sorted(ids))}")

    def _story(self, exp: Experiment, answer: Answer) -> str:
        return f"{answer}; calls: {' / '.join(call[:250] for call in exp.calls[-4:])}"

    # -- places --------------------------------------------------------------------------------------------------

    def there(self, exp: Experiment, pattern: str) -> list[Path]:
        """Files of the repo's folder on the cluster."""
        return sorted((self.scratch / "hpc-agent").glob(f"{exp.repo.name}-*/{pattern}"))

    def journals(self) -> list[Path]:
        return sorted((Path(self.env["HOME"]) / ".claude/hpc").glob("*/runs/*.jsonl"))


def until(condition: Callable[[], object], limit: float, pause: float = 0.05) -> bool:
    """Wait for a condition, at most so long; whether it came."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _open_folder(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o777)
    return path
