"""Measure the GPU memory of an executor with nvidia-smi, every 15 seconds."""

import os
import subprocess
import time
from typing import Dict, Optional

EVERY_SEC = 15.0
LIMIT_SEC = 10.0
QUERY = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]


class GpuWatch(object):
    """The GPU memory of one executor; ``peak_mb`` (MiB) is the largest sum over its processes that was measured."""

    def __init__(self, session: int, env: Dict[str, str]) -> None:
        self._session = session
        self._env = env
        self._query: Optional["subprocess.Popen[bytes]"] = None
        self._next = time.monotonic() + 1.0  # early, so that short tasks are measured too
        self.peak_mb: Optional[float] = None

    def look(self) -> None:
        """Start a query when one is due, and read its answer once there is one. Does not wait."""
        if self._query is not None:
            self._take(self._query)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_SEC
            try:
                self._query = subprocess.Popen(
                    QUERY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self._env
                )
            except OSError:
                self._next = float("inf")  # this node has no nvidia-smi

    def _take(self, query: "subprocess.Popen[bytes]") -> None:
        if query.poll() is None:
            if time.monotonic() > self._next - EVERY_SEC + LIMIT_SEC:
                query.kill()
            return
        used = self._used(query.communicate()[0].decode("ascii", "replace"))
        self._query = None
        if used is not None:
            self.peak_mb = max(self.peak_mb or 0.0, used)

    def _used(self, text: str) -> Optional[float]:
        found = None
        for line in text.splitlines():
            pid, _, used = line.partition(",")
            try:
                if os.getsid(int(pid)) == self._session:
                    found = (found or 0.0) + float(used)
            except (ValueError, OSError):
                continue
        return found

    def close(self) -> None:
        if self._query is not None:
            self._query.kill()
            self._query.wait()
            if self._query.stdout is not None:
                self._query.stdout.close()
