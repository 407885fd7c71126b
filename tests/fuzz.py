"""Odd calls of every verb, made from the schemas of the requests, and the judge of their answers.

    python tests/fuzz.py --seed 7 --calls 500          # in this process, in a folder of its own
    python tests/fuzz.py --seed 7 --first 120 --calls 1  # one call once more, with the calls before it that share its repo

Each line of stdout is one fault: the number of the call, what is wrong, argv and standard input. The last line counts.
No call can submit: every cluster that a verb with the effect SUBMIT sees is behind an ssh that refuses.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
from fuzz_sandbox import Sandbox
from odd_calls import Call, Generator

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "hpc_agent"
CALL_LIMIT_SEC = 60
MEMORY_LIMIT = 2 << 30
FRESH_EVERY = 40  # calls that share one repo


# ---------------------------------------------------------------- the judge
class Judge:
    """Says what is wrong with the answer of a call; an empty text when nothing is."""

    def __init__(self) -> None:
        from hpc_agent.errors import BY_CODE, EXIT_CODES

        self.by_code, self.exit_codes = BY_CODE, EXIT_CODES
        document = json.loads((PACKAGE / "schemas" / "envelope.json").read_text())
        self.envelope = jsonschema.Draft202012Validator(document)
        self.outcomes: Counter[str] = Counter()

    def fault(self, code: object, stdout: bytes, stderr: bytes) -> str:
        if stdout.count(b"\n") != 1 or not stdout.endswith(b"\n"):
            return f"stdout is not one line (exit {code}): {stdout[:300]!r} stderr {stderr[-800:]!r}"
        if b"Traceback (most recent" in stderr:
            return f"a traceback on stderr: {stderr[-1500:].decode(errors='replace')}"
        try:
            answer = json.loads(stdout)
        except ValueError as error:
            return f"stdout is not JSON: {error}: {stdout[:300]!r}"
        broken = next(self.envelope.iter_errors(answer), None)
        if broken:
            return f"no envelope: {broken.message}"
        if answer["ok"]:
            self.outcomes["ok"] += 1
            return "" if code == 0 else f"exit {code} for an answer that is ok"
        error_code, category = answer["error_code"], answer["category"]
        self.outcomes[error_code] += 1
        if error_code == "internal":
            return f"internal: {answer['message']}\n{answer.get('details', {}).get('traceback', '')}"
        if error_code not in self.by_code or self.by_code[error_code].category != category:
            return f"the error {error_code} of category {category} is not in the contract"
        if code != self.exit_codes[category]:
            return f"exit {code} for an error of category {category}"
        if not answer["message"].strip() or not answer["remediation"].strip():
            return f"an error without a message or a remedy: {answer}"
        return ""


# ---------------------------------------------------------------- calls in this process
class TookTooLong(BaseException):
    """A call did not end in time: no ``except Exception`` of the product takes it for an error."""


class Clock:
    """Time that passes at once where a verb sleeps: a watch of hours ends within a moment."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def awake(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += max(seconds, 0.01)


class Writes:
    """Notes what this process writes outside a folder."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.outside: list[str] = []
        self.cwd = self.root
        # sockets of ssh: their path must be short
        self.allowed = (self.root + "/", f"{tempfile.gettempdir()}/hpc-agent-{os.getuid()}/", "/dev/", "/proc/")
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            paths = [path] if writes else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2]) if event != "os.symlink" else [arguments[1]]
        elif event == "socket.connect":
            self.outside.append(f"connects to {arguments[1]!r}")
            return
        else:
            return
        for path in paths:
            if isinstance(path, int):
                continue
            full = os.path.normpath(os.path.join(self.cwd, os.fsdecode(path)))
            # Python keeps the bytecode of a module of this package that no earlier test has imported.
            if not (full + "/").startswith(self.allowed) and os.path.basename(os.path.dirname(full)) != "__pycache__":
                self.outside.append(f"{event} {full}")


def call_here(call: Call, sandbox: Sandbox, clock: Clock, capture: tuple[Any, Any, Any]) -> tuple[object, bytes, bytes]:
    """Make one call in this process: exit code, stdout and stderr, with what children of it wrote."""
    from hpc_agent.cli import main

    clock.ahead = 0.0
    os.environ.clear()
    os.environ.update({**sandbox.env, **call.env})
    tempfile.tempdir = None
    os.chdir(sandbox.repo if call.folder == "repo" else sandbox.root / "empty")
    given, out, err = capture
    for file in capture:
        file.seek(0)
        file.truncate()
    given.write(call.stdin)
    given.seek(0)
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(call.stdin))
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
    signal.alarm(CALL_LIMIT_SEC)
    code: object = None
    try:
        code = main(list(call.argv))
    except TookTooLong as error:
        code = f"took longer than {CALL_LIMIT_SEC} s: {''.join(traceback.format_tb(error.__traceback__)[-6:])}"
    except BaseException as error:  # noqa: BLE001 - SystemExit too is a fault
        code = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
    out.seek(0)
    err.seek(0)
    return code, out.read(), err.read()


def _too_long(number: int, frame: object) -> None:
    raise TookTooLong


def fuzz(root: Path, seed: int, numbers: range, report: Any, processes: bool = False) -> dict[str, Any]:
    """Make the calls; ``report`` gets a line a fault. Returns how the calls ended, and the counts of each verb."""
    sandbox = Sandbox(root)
    sandbox.make()
    generator, judge = Generator(sandbox, seed, processes), Judge()
    damaged = ""
    took, called, succeeded = Counter[str](), Counter[str](), Counter[str]()
    from hpc_agent.cli import run
    from hpc_agent.state import user_files
    from hpc_agent.world import World

    user_files.PIPE_WAIT_SEC = 0.1
    clock = Clock()
    run.World = lambda: World(now=clock.now, awake=clock.awake, sleep=clock.sleep, hold_sec=0.0)  # type: ignore[misc, assignment]
    signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    writes = Writes(root)
    kept = [os.dup(number) for number in (0, 1, 2)]
    capture = tuple(open(root / f"captured-{number}", "w+b") for number in (0, 1, 2))
    for number, file in enumerate(capture):
        os.dup2(file.fileno(), number)
    sys.setrecursionlimit(1000)
    begin = numbers.start - numbers.start % FRESH_EVERY
    try:
        for number in range(begin, numbers.stop, numbers.step):
            if number == begin or number % FRESH_EVERY < numbers.step:
                sandbox.refresh()
                damaged = sandbox.damage(random.Random(f"{seed}:{number}")) if number // FRESH_EVERY % 5 == 4 else ""
            call = generator.call(number)
            writes.cwd = str(sandbox.repo if call.folder == "repo" else root / "empty")
            (root / "current").write_text(f"{number} {call.argv}")  # is left when the process is killed
            begun = time.monotonic()
            code, stdout, stderr = (
                call_process(call, sandbox) if processes else call_here(call, sandbox, clock, capture)
            )
            took[call.verb] += round((time.monotonic() - begun) * 1000)
            fault = judge.fault(code, stdout, stderr)
            called[call.verb] += 1
            succeeded[call.verb] += code == 0
            if writes.outside:
                fault = f"{fault} writes outside its folder: {writes.outside[:3]}".strip()
                writes.outside.clear()
            if (sandbox.repo / "pwned").exists():
                fault = f"{fault} a value was run by a shell".strip()
            if fault and number >= numbers.start:
                shown = call.stdin[:2000].decode(errors="replace")
                facts = {"argv": call.argv, "stdin": shown, "env": call.env, "folder": call.folder, "damaged": damaged}
                report({"call": number, "fault": fault, **facts})
        if submitted := sandbox.submitted():
            report({"call": numbers.stop, "fault": f"something was submitted: {submitted[:5]}"})
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
    return {"outcomes": judge.outcomes, "called": called, "succeeded": succeeded, "milliseconds": took}


def call_process(call: Call, sandbox: Sandbox) -> tuple[object, bytes, bytes]:
    """Make one call as a process of its own."""
    command = [sys.executable, "-m", "hpc_agent", *call.argv]
    try:
        done = subprocess.run(
            command, cwd=sandbox.repo if call.folder == "repo" else sandbox.root / "empty", env={**sandbox.env, **call.env},
            input=call.stdin, capture_output=True, timeout=CALL_LIMIT_SEC, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return f"took longer than {CALL_LIMIT_SEC} s", error.stdout or b"", error.stderr or b""
    return done.returncode, done.stdout, done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--processes", action="store_true", help="each call is a process")
    parser.add_argument("--folder", type=Path, help="keep the sandbox here")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")

    def report(fault: dict[str, Any]) -> None:
        answers.write(json.dumps(fault) + "\n")
        answers.flush()

    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hpc-fuzz-", ignore_cleanup_errors=True))
        )
        folder.mkdir(exist_ok=True)
        numbers = range(options.first, options.first + options.calls)
        counts = fuzz(folder, options.seed, numbers, report, options.processes)
        os.chdir("/")
    report({"seed": options.seed, "calls": options.calls, **counts})
    return 0


if __name__ == "__main__":
    assert stat.S_ISDIR(PACKAGE.stat().st_mode)
    sys.exit(main())
