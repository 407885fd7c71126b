"""Progress of long work: a rich bar on a terminal, a plain line where rich is missing, JSON records otherwise."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from hpc_agent.world import Progress


def for_stderr(env: Mapping[str, str], view_follows: bool = False) -> Progress:
    """Return the progress reporter for standard error and ``HPC_PROGRESS`` (auto, json, none).

    ``view_follows``: the answer will stand on the same terminal as a view, which says what ``show`` would.
    """
    wanted = env.get("HPC_PROGRESS", "auto")
    if wanted == "none":
        return Progress()
    if wanted != "auto" or not sys.stderr.isatty():
        return JsonRecords(sys.stderr)
    reporter: Progress
    if env.get("TERM", "") in ("dumb", "unknown"):
        reporter = Sentences(sys.stderr)
    else:
        try:
            reporter = RichBar()
        except ImportError:
            reporter = PlainLine(sys.stderr)
    reporter.view_follows = view_follows
    return reporter


# Records of counts: one where the counts have changed and this share of the time so far has passed, and one in so many seconds.
APART, AT_LEAST_SEC = 0.1, 60.0


class JsonRecords(Progress):
    """Progress as one JSON object a line. Counts of tasks are told seldom: who reads the records pays for each byte."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = self._told = time.time()
        self._counts: dict[str, Any] = {}

    def update(self, event: str, **facts: Any) -> None:
        record = {"at": round(time.time(), 3), "event": event, **facts}
        if "total" in facts and not self._is_due(facts):
            return
        self._stream.write(json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n")
        self._stream.flush()

    def _is_due(self, facts: dict[str, Any]) -> bool:
        now, counts = time.time(), {name: value for name, value in facts.items() if name != "eta_seconds"}
        since = now - self._told
        is_changed = counts != self._counts and since >= APART * (now - self._began)
        is_due = not self._counts or is_changed or since >= AT_LEAST_SEC
        if is_due:
            self._told, self._counts = now, counts
        return is_due

    def say(self, text: str) -> None:
        self.update("say", text=text)


class ForPerson(Progress):
    """Progress on a terminal: a view that follows on it says what would be shown."""

    def show(self, text: str) -> None:
        if not self.view_follows:
            self.say(text)


class Sentences(ForPerson, JsonRecords):
    """Progress as plain lines, as seldom as records: for a terminal that cannot rewrite a line."""

    def update(self, event: str, **facts: Any) -> None:
        if "total" not in facts or self._is_due(facts):
            self.say(sentence(event, facts))

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def sentence(event: str, facts: Mapping[str, Any]) -> str:
    """Return progress as a sentence: ``pushing: files 12``, or ``3/8 complete, 5 running`` for counts of tasks."""
    if "total" in facts:
        parts = [f"{facts.get('complete', 0)}/{facts['total']} complete"]
        parts += [f"{facts[name]} {name}" for name in ("running", "pending", "failed", "unknown") if facts.get(name)]
        parts += _left(facts)
        return ", ".join(parts)
    detail = ", ".join(f"{key} {value}" for key, value in facts.items())
    return f"{event}: {detail}" if detail else event


def ago(seconds: float) -> str:
    """Return a duration as ``7 s``, ``3 min`` or ``2 h``."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def _left(facts: Mapping[str, Any]) -> list[str]:
    """Return the estimated time to the end as words, if there is an estimate."""
    eta = facts.get("eta_seconds")
    return [] if eta is None else [f"about {ago(eta)} left"]


class PlainLine(ForPerson):
    """Progress as one line, rewritten in place, and removed at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def update(self, event: str, **facts: Any) -> None:
        # one column short: a full line would wrap, and the wrapped part could not be rewritten
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{sentence(event, facts)[:width]}")
        self._stream.flush()

    def say(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.write("\r\x1b[K")
        self._stream.flush()


class RichBar(ForPerson):
    """A live bar of finished tasks, removed at the end; before the first count, the name of the current step."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Live

        console = Console(stderr=True)
        spinner = SpinnerColumn("line" if console.options.ascii_only else "dots")
        columns = (
            spinner,
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
        )
        self._live = Live(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._task = self._live.add_task("starting", total=None)
        self._live.start()

    def update(self, event: str, **facts: Any) -> None:
        if "total" in facts:
            done = int(facts.get("complete", 0)) + int(facts.get("failed", 0))
            parts = [f"{facts[name]} {name}" for name in ("running", "pending", "failed") if facts.get(name)]
            parts += _left(facts)
            self._live.update(self._task, total=int(facts["total"]), completed=done, description=", ".join(parts))
        else:
            self._live.update(self._task, description=sentence(event, facts))

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()
