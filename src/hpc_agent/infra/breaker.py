"""A circuit breaker per host: a login node that does not answer is left alone for a while, by every process of ours.

Many wrong logins in a row get an address banned at some sites, and an agent in a loop makes many.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc_agent.errors import SshUnreachable
from hpc_agent.infra.transport import Completed, Transport
from hpc_agent.node.shared.files import read_json, write_json

FAILURES_BEFORE_OPEN = 5
FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC = 30.0, 600.0
# Failures so long ago say nothing of today.
FORGOTTEN_SEC = 3600.0


class GuardedTransport:
    """A transport that is not tried while its host's circuit is open."""

    def __init__(self, inner: Transport, target: str, folder: Path, env: Mapping[str, str]) -> None:
        self._inner = inner
        self._target = target
        self._path = folder / (hashlib.sha256(target.encode()).hexdigest()[:16] + ".json")
        self._off = bool(env.get("HPC_NO_BREAKER"))

    def run(self, words: Sequence[str], stdin: bytes, timeout: float) -> Completed:
        with self._guarded():
            return self._inner.run(words, stdin, timeout)

    def push(self, source: Path, files: Sequence[str], destination: str, already: str, timeout: float) -> None:
        with self._guarded():
            self._inner.push(source, files, destination, already, timeout)

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        state = self._state()
        self._refuse_while_open(state)
        try:
            yield
        except SshUnreachable:
            self._failed(state)
            raise
        if state:
            self._path.unlink(missing_ok=True)

    def _state(self) -> dict[str, Any]:
        try:
            state = read_json(str(self._path), {})
        except (OSError, ValueError):
            return {}
        fresh = isinstance(state, dict) and 0 <= time.time() - float(state.get("last", 0)) < FORGOTTEN_SEC
        return state if fresh else {}

    def _refuse_while_open(self, state: dict[str, Any]) -> None:
        left = float(state.get("open_until", 0)) - time.time()
        if self._off or left <= 0:
            return
        raise SshUnreachable(
            f"{self._target} did not answer {state['failures']} times in a row; it is left alone for {left:.0f} s more",
            remediation=f"Check that 'ssh -o BatchMode=yes {self._target} true' works, wait {left:.0f} s, then call again "
            "(HPC_NO_BREAKER=1 in the environment tries at once).",
            details={"host": self._target, "retry_after_sec": round(left), "failures": state["failures"]},
        )

    def _failed(self, state: dict[str, Any]) -> None:
        failures = int(state.get("failures", 0)) + 1
        above = failures - FAILURES_BEFORE_OPEN
        pause = min(FIRST_PAUSE_SEC * 2**above, LONGEST_PAUSE_SEC) if above >= 0 else 0.0
        document = {"failures": failures, "last": time.time(), "open_until": time.time() + pause}
        # A full disk must not turn an unreachable host into another error.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(str(self._path), document, sync=False)
