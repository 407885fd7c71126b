"""Compute the pause between two looks: longer while nothing changes, and after failed looks."""

from __future__ import annotations

from hpc_agent.infra.clusters import Cluster

SLOWEST_SEC = 300.0
UNCHANGED_BEFORE_SLOWER = 2
FAILED_POLLS_TOLERATED = 10


class PollInterval:
    """The pause before the next look. ``first`` is the requested pause; the cluster's ``min_poll_sec`` is the minimum."""

    def __init__(self, cluster: Cluster, first: float | None = None) -> None:
        least = 0.5 if cluster.scheduler == "local" else float(cluster.min_poll_sec)
        self._first = max(least, first or least)
        self._unchanged = 0
        self.failed = 0

    def saw(self, changed: bool) -> None:
        """Count a look that was answered."""
        self.failed = 0
        self._unchanged = 0 if changed else self._unchanged + 1

    def missed(self) -> bool:
        """Count a look that failed. Return True when too many looks in a row have failed."""
        self.failed += 1
        return self.failed >= FAILED_POLLS_TOLERATED

    def seconds(self) -> float:
        """Return the pause before the next look."""
        slower = self._first * 2.0 ** min(16, max(0, self._unchanged - UNCHANGED_BEFORE_SLOWER + 1))
        return min(max(slower, 2.0**self.failed if self.failed else 0.0), max(SLOWEST_SEC, self._first))
