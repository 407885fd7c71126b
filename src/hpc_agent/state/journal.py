"""The journal of runs on this machine: one fsynced JSON line for each event; a run's state is the fold of its events."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import JournalCorrupt, RunNotFound
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.state.repo_files import RepoLayout, check_identifier, save
from hpc_agent.world import World

TERMINAL = ("complete", "failed", "abandoned")


class RunRecord(msgspec.Struct, kw_only=True):
    """A run as this machine knows it. Times are in seconds since the epoch."""

    run_id: str
    run_name: str = ""
    cluster: str = ""
    campaign_id: str | None = None
    total_tasks: int = 0
    cmd_sha: str = ""
    tree_sha: str = ""
    executor: str = ""
    content_sha: str = ""
    adopted: bool = False  # another machine, or another folder, submitted it
    remote_path: str = ""  # the run's folder on the cluster
    submitted_at: float | None = None  # None until every array was accepted
    started_at: float = 0.0  # when the submission began
    job_ids: list[str] = []
    waiting: int = 0  # arrays that are planned and not submitted yet
    status: str = "submitting"  # in_flight, complete, failed or abandoned
    last_status: dict[str, Any] = {}
    last_status_at: float | None = None
    combined_waves: list[int] = []
    open_resubmit: str | None = None  # a resubmission whose outcome is not known here yet
    open_policy: dict[str, Any] | None = None  # the tasks, classes and resources that this resubmission asked for
    resubmits: int = 0  # calls that submitted failed tasks again
    output: str | None = None  # folder of the last aggregate
    command: str | None = None  # goes on with a submission that was interrupted
    pruned: dict[str, float] = {}  # parts that were removed on the cluster -> when; "all": the whole run
    open_prune: str | None = None  # the token of a removal whose outcome is not known here yet

    @property
    def pruned_at(self) -> float | None:
        """Return when the whole run was removed on its cluster; None while it is there."""
        return self.pruned.get("all")

    @property
    def never_sent(self) -> bool:
        """Return True for a submission of which is known that it left no job in a queue."""
        return self.status == "abandoned" and self.command is not None and not self.job_ids


class Journal:
    """The runs of one repo. ``HPC_JOURNAL_DIR`` or ``~/.claude/hpc``, then ``<repo_hash>/runs/<run_id>.jsonl``."""

    def __init__(self, world: World, repo: RepoLayout) -> None:
        self._world = world
        self._repo = repo
        self.folder = world.journal_root / repo.repo_hash
        self.runs = self.folder / "runs"

    def path(self, run_id: str) -> Path:
        return self.runs / f"{check_identifier(run_id, 'run_id')}.jsonl"

    def append(self, run_id: str, event: str, **facts: Any) -> None:
        """Add one event, as ``append_line`` does."""
        path = self.path(run_id)
        if not path.exists():
            self.runs.mkdir(parents=True, exist_ok=True)
            save(self.folder / "repo.json", {"experiment_dir": str(self._repo.root)})
        document = {"event": event, "at": round(self._world.now(), 3), **msgspec.to_builtins(facts)}
        append_line(path, document)

    def keep_tombstone(self, record: RunRecord) -> None:
        """Replace the events of a run by a few: what it was, its end, and when it was removed."""
        facts = {name: getattr(record, name) for name in _IDENTITY}
        events = [
            {"event": "submitting", "at": record.started_at, **facts},
            {"event": "submitted", "at": record.submitted_at or record.started_at, "job_ids": record.job_ids[:20]},
            {"event": "status", "at": record.last_status_at or record.started_at, "lifecycle_state": record.status,
             "counts": record.last_status},
            {"event": "pruned", "at": self._world.now(), "parts": ["all"], "pruned_at": record.pruned_at},
        ]  # fmt: skip
        lines = b"".join(json.dumps(event, sort_keys=True).encode() + b"\n" for event in events)
        write_bytes(str(self.path(record.run_id)), lines)

    def load(self, run_id: str) -> RunRecord:
        """Return the state of a run. Raises RunNotFound or JournalCorrupt."""
        path = self.path(run_id)
        if not path.exists():
            from difflib import get_close_matches

            near = get_close_matches(run_id, ids := self.run_ids(), n=3, cutoff=0.4)
            others = "1 other is" if len(ids) == 1 else f"{len(ids)} others are"
            known = f"near it: {', '.join(near)}" if near else others
            message = f"no run '{run_id}' is known for {self._repo.root}; {known}"
            hint = did_you_mean(run_id, [name for name in (*ids, "latest") if name != run_id])
            raise RunNotFound(message, field="run_id", remediation=hint + RunNotFound.default_remediation)
        return fold(run_id, read_events(path)[0])

    def find(self, run_id: str) -> RunRecord | None:
        return self.load(run_id) if self.path(run_id).exists() else None

    def submit_command(self, run_id: str) -> str | None:
        """Return the command that submitted a run. None for a run of an earlier version, or one that was adopted."""
        commands = [event["command"] for event in read_events(self.path(run_id))[0] if event.get("command")]
        return commands[-1] if commands else None

    def run_ids(self) -> list[str]:
        return [path.stem for path in self.runs.glob("*.jsonl")] if self.runs.is_dir() else []

    def all(self, never_sent: bool = False) -> tuple[list[RunRecord], list[str]]:
        """Return every readable run, newest first, and a sentence for each unreadable one.

        ``never_sent``: also submissions of which is known that they left no job.
        """
        records, problems = [], []
        for run_id in self.run_ids():
            try:
                records.append(self.load(run_id))
            except JournalCorrupt as error:
                problems.append(error.message)
        records = [record for record in records if never_sent or not record.never_sent]
        return sorted(records, key=lambda r: r.started_at, reverse=True), problems


def append_line(path: Path, document: dict[str, Any]) -> None:
    """Add one JSON line and sync it to disk. A torn last line, which an append that never returned left, is cut off."""
    line = json.dumps(document, sort_keys=True).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_events(path: Path, remedy: str = "") -> tuple[list[dict[str, Any]], bool]:
    """Return the events of a journal, and True when its last line is torn (and left out). Raises JournalCorrupt."""
    lines = path.read_bytes().split(b"\n")
    torn = bool(lines.pop())
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise JournalCorrupt(
                f"line {number} of {path} is not a journal event",
                remediation=remedy
                or f"Run 'mv {path} {path}.broken', then the same 'hpc-agent submit' again: the run is found "
                "on the cluster, and no task is submitted twice.",
                details={"path": str(path), "line": number},
            )
        events.append(event)
    return events, torn


_IDENTITY = ("run_name", "cluster", "campaign_id", "total_tasks", "cmd_sha", "tree_sha", "executor", "remote_path",
             "content_sha", "adopted")  # fmt: skip


def fold(run_id: str, events: Iterable[dict[str, Any]]) -> RunRecord:
    """Return the state of a run after its events."""
    record = RunRecord(run_id=run_id)
    for event in events:
        match event["event"]:
            case "submitting":
                for key in _IDENTITY:
                    setattr(record, key, event.get(key, getattr(record, key)))
                record.started_at = record.started_at or event.get("started_at") or event["at"]
                if not record.submitted_at:
                    record.command = event.get("command")
                    record.status = "submitting"
            case "submitted":
                _submitted(record, event)
            case "status":
                record.status, record.last_status = event["lifecycle_state"], event["counts"]
                record.last_status_at = event["at"]
            case "marked":
                record.status = event["status"]
            case "resubmitting":
                record.open_resubmit, record.open_policy = event["request_id"], event.get("policy")
            case "resubmitted":
                record.open_resubmit = record.open_policy = None
                record.resubmits += bool(event["jobs"] or event.get("waiting"))  # not a call that found nothing to do
                record.status = "in_flight" if event["jobs"] else record.status
                record.job_ids = list(dict.fromkeys([*record.job_ids, *event["jobs"]]))
            case "pruning" | "pruned":
                _removal(record, event)
            case "aggregated":
                record.combined_waves = sorted({*record.combined_waves, *event["waves"]})
                record.output = event["output"]
    return record


def _submitted(record: RunRecord, event: dict[str, Any]) -> None:
    begins = record.status == "submitting" or record.never_sent
    record.job_ids = list(event["job_ids"])
    record.remote_path = event.get("remote_path", record.remote_path)
    record.waiting = event.get("waiting", 0)
    if event.get("whole", True):
        record.submitted_at = record.submitted_at or event["at"]
        record.command = None
        record.status = "in_flight" if begins else record.status


def _removal(record: RunRecord, event: dict[str, Any]) -> None:
    """Take in the intent of a removal, or its outcome: a run of which nothing is left has ended."""
    if event["event"] == "pruning":
        record.open_prune = event["token"]
        return
    record.open_prune = None
    record.pruned.update(dict.fromkeys(event["parts"], event.get("pruned_at") or event["at"]))
    if record.pruned_at and record.status not in TERMINAL:
        record.status = "abandoned"
