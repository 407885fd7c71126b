"""One ``claude`` process: started without a terminal, ended after its time, its outcome told from what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from hpc_agent.errors import Interrupted, WorkerFailed, WorkerNotInstalled
from hpc_agent.ops.agents.credentials import auth_unavailable, without_secrets
from hpc_agent.ops.agents.prompt import WorkerReport
from hpc_agent.world import PLANS, WORKER

PROGRAM = "claude"
GRACE_SEC = 10.0
MOST_BYTES = 10 << 20
# Of a session around this call: a worker would take itself for a part of it, or refuse to start.
_DROPPED = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SESSION_ID")
_NO_LOGIN = re.compile(
    r"not logged in|/login\b|invalid api key|authentication[_ ]error|invalid x-api-key|oauth token", re.I
)
_LIMITS = {
    "error_max_turns": ("turn_limit", "it had no answer after its last turn", "--max-turns"),
    "error_max_budget_usd": ("budget", "it used up its money", "--max-budget-usd"),
}


class Answer(msgspec.Struct):
    """What claude printed, and how it ended; a negative code is a signal."""

    code: int
    out: str
    err: str
    timed_out: bool = False


def find_program(env: Mapping[str, str]) -> str:
    """Return the path of ``claude``. Raises WorkerNotInstalled."""
    found = shutil.which(PROGRAM, path=env.get("PATH"))
    if not found:
        raise WorkerNotInstalled(f"there is no program '{PROGRAM}' on the PATH")
    return found


def environment(env: Mapping[str, str], confirmed: bool) -> dict[str, str]:
    """Return the environment of a worker: this one, with this hpc-agent on its PATH, which refuses what was not confirmed."""
    kept = {name: value for name, value in env.items() if name not in _DROPPED}
    if not shutil.which("hpc-agent", path=env.get("PATH")):
        kept["PATH"] = f"{env.get('PATH') or os.defpath}{os.pathsep}{Path(sys.executable).parent}"
    return {**kept, WORKER: "1" if confirmed else PLANS, "HPC_PROGRESS": "none"}


def call(argv: Sequence[str], cwd: Path, env: Mapping[str, str], limit_sec: float) -> Answer:
    """Run a command to its end, or to the limit: then its process group is ended.

    Its output goes to files: a shell that it leaves behind may keep a pipe open, and would be waited for.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _ending_with_this_one():
        process = subprocess.Popen(
            argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        timed_out = False
        try:
            process.wait(limit_sec)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _end(process)
        return Answer(process.returncode, _text(out), _text(err), timed_out)


@contextlib.contextmanager
def _ending_with_this_one() -> Iterator[None]:
    """Turn a SIGTERM of this process into an error, so that the worker is ended too and not left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, frame: object) -> NoReturn:  # noqa: ARG001
        raise Interrupted("a signal ended the command, and the worker with it")

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group: SIGTERM, and SIGKILL for what still runs."""
    for number, seconds in ((signal.SIGTERM, GRACE_SEC), (signal.SIGKILL, None)):
        if process.poll() is None or number == signal.SIGKILL:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


def _text(file: Any) -> str:
    file.seek(0)
    return bytes(file.read(MOST_BYTES)).decode("utf-8", "replace")


def read_report(answer: Answer, env: Mapping[str, str]) -> tuple[dict[str, Any], WorkerReport]:
    """Return what claude said of its turns and money, and the report. Raises the error that tells how it ended."""
    document = _document(answer.out, env)
    subtype = str(document.get("subtype", ""))
    told = f"{document.get('result', '')} {answer.err}" if document else f"{answer.out} {answer.err}"
    if answer.timed_out:
        raise _failed("timeout", "it was ended at its time limit; --timeout-sec gives it more", answer, env)
    if answer.code in (143, -signal.SIGTERM):
        raise _failed("terminated", "a signal ended it (SIGTERM)", answer, env)
    if answer.code < 0 or answer.code == 128 + signal.SIGKILL:
        raise _failed("killed", f"a signal ended it ({answer.code})", answer, env)
    if subtype in _LIMITS:
        outcome, what, flag = _LIMITS[subtype]
        raise _failed(outcome, f"{what}; {flag} gives it more", answer, env)
    if (answer.code or document.get("is_error")) and _NO_LOGIN.search(told):
        raise auth_unavailable("claude refused the credentials, or found none")
    if answer.code or document.get("is_error"):
        what = f"it ended with exit code {answer.code}" + (f" ({subtype})" if subtype else "")
        raise _failed("exit", what, answer, env)
    try:
        return _facts(document), msgspec.convert(document["structured_output"], WorkerReport)
    except (LookupError, msgspec.ValidationError) as error:
        what = f"its report is not as asked: {error}" if document else "it printed no JSON"
        raise _failed("garbage", what, answer, env) from error


def _document(text: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON object that claude printed, the last one of a list; an empty one for any other text.

    Secrets are out of it, and half characters (of an emoji that was cut in two), which no answer can hold.
    """
    try:
        document = without_secrets(json.loads(text), env)
    except (ValueError, RecursionError):
        return {}
    if isinstance(document, list):
        document = next((one for one in reversed(document) if isinstance(one, dict)), {})
    return document if isinstance(document, dict) else {}


def _failed(outcome: str, what: str, answer: Answer, env: Mapping[str, str]) -> WorkerFailed:
    # cleaned whole: the cut may go through a secret
    ends = {name: without_secrets(text, env)[-1000:] for name, text in (("stdout", answer.out), ("stderr", answer.err))}
    known = _facts(_document(answer.out, env))
    details = {"outcome": outcome, "exit_code": answer.code, **ends, **known}
    return WorkerFailed(f"the worker failed: {without_secrets(what, env)}", details=details)


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    """Return what claude said of its turns, money and session, as far as it is a number or a name."""
    found: dict[str, Any] = {}
    for name, kind in {"num_turns": int, "total_cost_usd": float, "session_id": str}.items():
        with contextlib.suppress(msgspec.ValidationError, OverflowError):
            found[name] = msgspec.convert(document.get(name), kind)
    return found
