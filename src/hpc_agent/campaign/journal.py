"""The journal of a campaign: asks and tells in order, one fsynced JSON line each; ``History`` is the fold of its lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.campaign.manifest import Constraint, Manifest, campaign_folder
from hpc_agent.contract.vocabulary import doc
from hpc_agent.errors import JournalCorrupt
from hpc_agent.state.journal import append_line, read_events
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

State = Literal["complete", "failed", "stopped"]
SEEDED = "seed:"
JOURNAL = "journal.jsonl"


class Ask(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A trial: its parameters, and what the strategy has to remember of it."""

    trial: int
    iteration: int
    params: dict[str, Any]
    origin: Annotated[str, doc("the strategy, start, again:<trial>, or seed:<campaign>/<trial>")]
    attrs: dict[str, Any] = {}
    library: Annotated[str, doc("name and version of the library that chose the point")] = ""


class Submitted(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run took these trials: its task ids are their places in the list."""

    iteration: int
    run_id: str
    trials: list[int]
    jobs: Annotated[int, doc("arrays of the run, without its canary")] = 1


class Outcome(msgspec.Struct, kw_only=True):
    """What the end of a trial tells. ``stopped``: the task ended itself early, after ``stopped_at`` steps."""

    values: Annotated[dict[str, float], doc("metric -> value")] = {}
    constraints: Annotated[dict[str, float], doc("metric of a constraint -> value")] = {}
    seconds: float = 0.0
    cpus: int = 1
    stopped_at: int | None = None
    why: Annotated[str, doc("of a failed trial")] = ""


class Tell(Outcome, kw_only=True, omit_defaults=True):
    """The end of a trial."""

    trial: int
    state: State
    run_id: str = ""
    task_id: int = -1


class Stopped(msgspec.Struct, kw_only=True):
    reason: str
    detail: str


Line = Ask | Submitted | Tell | Stopped
EVENTS = {"ask": Ask, "submitted": Submitted, "tell": Tell, "stopped": Stopped}


class Trial(Outcome, kw_only=True):
    """A trial with all that is known of it."""

    number: int
    iteration: Annotated[int, doc("-1: of an earlier campaign")]
    params: dict[str, Any]
    origin: str
    attrs: dict[str, Any] = {}
    library: str = ""
    state: Annotated[str, doc("asked, submitted, complete, failed or stopped")] = "asked"
    run_id: str = ""
    task_id: int = -1
    asked_at: float = 0.0
    told_at: float | None = None

    @property
    def evidence(self) -> str:
        """Return the command that shows why the trial failed: to its run, a task without a usable metric is complete."""
        verb = "failures"
        if self.has_run and self.task_id >= 0:
            # the table has every number that tasks wrote
            verb = (
                "aggregate" if self.lacks_metric and "no number" not in self.why else f"logs --task-id {self.task_id}"
            )
        return f"hpc-agent {verb} --run-id {self.run_id}"

    @property
    def has_run(self) -> bool:
        """Return True where the task of the trial is complete, also of a failed trial."""
        return self.state in ("complete", "stopped") or self.why.startswith("the metric ")

    @property
    def lacks_metric(self) -> bool:
        """Return True where the task is complete and wrote no value, not even nan, of a metric."""
        return self.why.startswith("the metric ") and "' is missing" in self.why

    @property
    def is_open(self) -> bool:
        return self.state in ("asked", "submitted")

    def short(self) -> dict[str, Any]:
        """Return what an answer has of the trial."""
        facts = {"trial": self.number, "run_id": self.run_id, "params": self.params, "values": self.values}
        return facts | ({"task_id": self.task_id} if self.task_id >= 0 else {})


def violation(constraint: Constraint, value: float | None) -> float:
    """Return how far a value lies outside of a bound; 0 or less inside. Infinity without a value."""
    if value is None:
        return math.inf
    over = -math.inf if constraint.at_most is None else value - constraint.at_most
    under = -math.inf if constraint.at_least is None else constraint.at_least - value
    return max(over, under)


class History(msgspec.Struct, kw_only=True):
    """A campaign after some lines of its journal."""

    trials: list[Trial] = []
    tells: Annotated[list[int], doc("numbers of the trials in the order of their ends")] = []
    runs: Annotated[dict[str, list[int]], doc("run -> trials, in the order of its task ids")] = {}
    jobs: int = 0
    stopped: Stopped | None = None

    @property
    def open_trials(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.is_open]

    @property
    def unsubmitted(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "asked"]

    @property
    def next_iteration(self) -> int:
        """Return the iteration of the next ask: that of the trials that wait for their submission, else a new one."""
        waiting = self.unsubmitted
        return waiting[0].iteration if waiting else max(self.iterations, default=-1) + 1

    @property
    def open_runs(self) -> dict[str, list[int]]:
        """Return the runs that have a trial without an end, with the numbers of those trials."""
        found = {run: [n for n in trials if self.trials[n].state == "submitted"] for run, trials in self.runs.items()}
        return {run_id: trials for run_id, trials in found.items() if trials}

    @property
    def iterations(self) -> dict[int, list[Trial]]:
        """Return the trials of each iteration of this campaign."""
        found: dict[int, list[Trial]] = {}
        for trial in self.own:
            found.setdefault(trial.iteration, []).append(trial)
        return found

    @property
    def own(self) -> list[Trial]:
        """Return the trials of this campaign: what every answer counts and ranks."""
        return [trial for trial in self.trials if trial.iteration >= 0]

    @property
    def earlier(self) -> list[Trial]:
        """Return the trials that ``--seed-from`` took over: the strategy knows them, and no answer counts them."""
        return [trial for trial in self.trials if trial.iteration < 0]

    def ranked(self, manifest: Manifest, metric: str | None = None) -> list[Trial]:
        """Return those of this campaign that ``ranked`` returns."""
        return ranked(manifest, self.own, metric)

    def best(self, manifest: Manifest, metric: str | None = None) -> Trial | None:
        """Return the first of ``ranked``: of two equals the earlier one."""
        return next(iter(self.ranked(manifest, metric)), None)

    def pareto_front(self, manifest: Manifest) -> list[Trial]:
        """Return the trials that no other one beats in every metric, sorted as ``ranked``."""
        signs = {metric.name: metric.sign for metric in manifest.metrics}
        found = [trial for trial in self.ranked(manifest) if signs.keys() <= trial.values.keys()]
        points = [[sign * trial.values[name] for name, sign in signs.items()] for trial in found]

        def beaten(mine: list[float]) -> bool:
            return any(other != mine and all(o <= m for o, m in zip(other, mine, strict=True)) for other in points)

        return [trial for trial, mine in zip(found, points, strict=True) if not beaten(mine)]


def counts_of(trials: Iterable[Trial]) -> dict[str, int]:
    """Return the number of trials in each state that occurs; ``open``: asked or submitted."""
    return dict(Counter("open" if trial.is_open else trial.state for trial in trials))


def feasible(manifest: Manifest, trial: Trial) -> bool:
    return all(violation(one, trial.constraints.get(one.metric)) <= 0 for one in manifest.constraints)


def ranked(manifest: Manifest, trials: Iterable[Trial], metric: str | None = None) -> list[Trial]:
    """Return the complete trials inside all constraints, the best first; of halving those of the top rung alone."""
    chosen = manifest.metric(metric)
    if chosen is None:
        return []
    complete = [trial for trial in trials if trial.state == "complete" and feasible(manifest, trial)]
    found = sorted(
        (trial for trial in complete if chosen.name in trial.values),
        key=lambda trial: chosen.sign * trial.values[chosen.name],
    )
    if manifest.resource and found:
        amounts = [trial.params.get(manifest.resource, 0) for trial in found]  # a seeded trial has none
        found = [trial for trial, amount in zip(found, amounts, strict=True) if amount == max(amounts)]
    return found


def fold(events: Iterable[dict[str, Any]], path: Path | None = None) -> History:
    """Return the history after these events. Raises JournalCorrupt for events that cannot follow each other."""
    history = History()
    for number, event in enumerate(events, 1):
        kind = EVENTS.get(event["event"])
        if kind is None:
            continue  # of a later version
        try:
            apply(history, msgspec.convert(event, kind), float(event.get("at", 0.0)))
        except (msgspec.ValidationError, IndexError, ValueError, TypeError) as error:
            message = f"event {number} of {path or 'the journal'} does not fit those before it: {error}"
            raise JournalCorrupt(message, remediation=_restore(path), details={"line": number}) from error
    return history


def _restore(path: Path | None) -> str:
    return f"Restore {path or 'the journal'} from a backup, or begin another campaign with 'hpc-agent campaign-init'."


def apply(history: History, line: Line, at: float) -> None:
    """Add a line to the history. Raises ValueError or IndexError for a line that cannot follow."""
    match line:
        case Ask():
            if line.trial != len(history.trials):
                raise ValueError(f"trial {line.trial} is asked where {len(history.trials)} comes next")
            facts = {name: getattr(line, name) for name in ("iteration", "params", "origin", "attrs", "library")}
            history.trials.append(Trial(number=line.trial, asked_at=at, **facts))
            history.stopped = None  # failed trials are tried again
        case Submitted():
            if line.run_id not in history.runs:  # an interrupted submission is adopted: its line may come twice
                history.jobs += line.jobs
            history.runs[line.run_id] = line.trials
            for task_id, number in enumerate(line.trials):
                trial = _trial(history, number)
                trial.run_id, trial.task_id = line.run_id, task_id
                trial.state = "submitted" if trial.state == "asked" else trial.state
        case Tell():
            trial = _trial(history, line.trial)
            if not trial.is_open:
                return  # told twice: the first one counts, because later asks have seen it
            for name in ("state", *Outcome.__struct_fields__):
                setattr(trial, name, getattr(line, name))
            trial.run_id, trial.task_id = line.run_id or trial.run_id, max(line.task_id, trial.task_id)
            trial.told_at = at
            history.tells.append(line.trial)
        case Stopped():
            history.stopped = line


def _trial(history: History, number: int) -> Trial:
    if not 0 <= number < len(history.trials):
        raise ValueError(f"trial {number} was never asked")
    return history.trials[number]


class CampaignJournal:
    """``.hpc/campaigns/<id>/journal.jsonl``: one writer at a time (the driver's lock), any number of readers."""

    def __init__(self, world: World, repo: RepoLayout, campaign_id: str) -> None:
        self._world = world
        self.path = campaign_folder(repo, campaign_id) / JOURNAL

    def append(self, line: Line) -> None:
        """Add a line and sync it to disk; a torn last line, which an append that never returned left, is cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self.path, event_of(line, self._world.now()))

    def add(self, history: History, line: Line) -> None:
        """Add a line to the history and to the journal. Raises JournalCorrupt, and writes nothing, where it cannot follow."""
        try:
            apply(history, line, self._world.now())
        except (IndexError, ValueError) as error:
            message = f"{self.path} lacks lines, for the next one does not follow: {error}"
            raise JournalCorrupt(message, remediation=_restore(self.path)) from error
        self.append(line)

    def events(self) -> list[dict[str, Any]]:
        """Return the whole lines. A torn last line was never acknowledged and is left out. Raises JournalCorrupt."""
        return read_events(self.path, _restore(self.path))[0] if self.path.exists() else []

    def history(self) -> History:
        """Return the state of the campaign. Raises JournalCorrupt."""
        return fold(self.events(), self.path)


def event_of(line: Line, at: float) -> dict[str, Any]:
    """Return the line as the journal has it; ``at`` is in seconds since the epoch and no part of its identity."""
    name = next(name for name, kind in EVENTS.items() if isinstance(line, kind))
    return {"event": name, **msgspec.to_builtins(line), "at": round(at, 3)}
