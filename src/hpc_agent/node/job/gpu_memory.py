"""Measure the GPU memory of an executor with nvidia-smi, every 15 seconds."""

import os
import subprocess
import threading
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import Dict, Optional

FIRST_SEC = 1.0  # early, so that short tasks are measured too
EVERY_SEC = 15.0
LIMIT_SEC = 10.0
QUERY = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]


class GpuWatch(threading.Thread):
    """The GPU memory of one executor; ``peak_mb`` (MiB) is the largest sum over its processes that was measured."""

    def __init__(self, session: int, env: Dict[str, str]) -> None:
        super().__init__(daemon=True)  # a query that hangs does not hold the dispatcher
        self._session = session
        self._env = env
        self._query: "Optional[subprocess.Popen[bytes]]" = None
        self._ended = threading.Event()
        self.peak_mb: Optional[float] = None
        with suppress(RuntimeError):  # too many threads just now: nothing is measured
            self.start()

    def run(self) -> None:
        pause = FIRST_SEC
        while not self._ended.wait(pause):
            pause = EVERY_SEC
            try:
                self._query = query = subprocess.Popen(QUERY, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=self._env)
            except OSError:
                return  # this node has no nvidia-smi
            if self._ended.is_set():
                query.kill()  # close() came before the query
            with suppress(subprocess.TimeoutExpired):
                self._take(query.communicate(timeout=LIMIT_SEC)[0].decode(errors="replace"))
            query.kill()  # it hangs, or has ended
            query.wait()

    def close(self) -> None:
        """End the measurements, and a query that hangs: it must not outlive the element."""
        self._ended.set()
        if self._query is not None:
            self._query.kill()

    def _take(self, answer: str) -> None:
        used = []
        for line in answer.splitlines():
            pid, _, megabytes = line.partition(",")
            with suppress(ValueError, OSError):  # not a process, or one that has ended
                if os.getsid(int(pid)) == self._session:
                    used.append(float(megabytes))
        if used:
            self.peak_mb = max(self.peak_mb or 0.0, sum(used))
