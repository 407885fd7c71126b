"""The strategies: ``ask`` is a function of manifest and history alone, so a journal replays to the same points."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any, cast

import msgspec

from hpc_agent.campaign.journal import Ask, History, Trial, fold
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.space import fitting
from hpc_agent.campaign.strategies.common import Point, Strategy
from hpc_agent.errors import NeedsResolution, SpecInvalid

MODULES = {
    "grid": "grid", "random": "simple", "quasi_random": "simple", "tpe": "tpe", "cma_es": "cma", "halving": "halving",
}  # fmt: skip


def strategy_of(manifest: Manifest) -> Strategy:
    return cast(Strategy, importlib.import_module(f"{__name__}.{MODULES[manifest.strategy.name]}"))


def check_strategy(manifest: Manifest) -> None:
    """Raise SpecInvalid where strategy, space, metrics and start points do not fit; NeedsResolution without its library."""
    strategy_of(manifest).check(manifest)
    library_of(manifest)
    for number, params in enumerate(manifest.start):
        if fitting(manifest.space, params) is None or params.keys() != manifest.space.keys():
            raise SpecInvalid(f"{params} is no point of the search space", field=f"start[{number}]")


def library_of(manifest: Manifest) -> str:
    """Return the library that chooses the points, with its version; empty for none. Raises NeedsResolution."""
    name = strategy_of(manifest).library
    if not name:
        return ""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        message = f"the strategy {manifest.strategy.name} needs {name}, which is not installed here"
        remedy = "Run: pip install 'hpc-agent[optuna]' (without it: grid, random, quasi_random, halving)."
        raise NeedsResolution(message, field="strategy.name", remediation=remedy) from None


def other_libraries(manifest: Manifest, history: History) -> list[str]:
    """Return a sentence for each other version that chose points of the journal, or that none is here to choose more."""
    if manifest.is_own:
        return []
    try:
        here = library_of(manifest)
    except NeedsResolution as error:
        return [f"{error.message}. {error.remediation}"]
    found: dict[str, list[int]] = {}
    for trial in history.trials:
        if trial.library not in ("", here):
            found.setdefault(trial.library, []).append(trial.number)
    differ = f"and {here} is installed here: the next points may differ from those that it would choose"
    return [f"trials {at[0]} to {at[-1]} were chosen by {library}, {differ}" for library, at in found.items()]


def ask(manifest: Manifest, history: History, count: int) -> list[Ask]:
    """Return the next trials: start points, then failed trials that are tried again, then points of the strategy.

    Fewer than ``count``, and none, when the strategy waits for open trials or has no further point. Raises
    NeedsResolution for a strategy whose library is not installed.
    """
    after = msgspec.structs.replace(history, trials=list(history.trials))
    library, iteration = library_of(manifest), history.next_iteration
    asks: list[Ask] = []

    def add(point: Point, origin: str, by: str = "") -> None:
        facts: dict[str, Any] = {"params": point.params, "origin": origin, "attrs": point.attrs, "library": by}
        asks.append(Ask(trial=len(after.trials), iteration=iteration, **facts))
        after.trials.append(Trial(number=len(after.trials), iteration=iteration, **facts))

    started = sum(trial.origin == "start" for trial in history.trials)
    starts = [] if manifest.resource else manifest.start[started:]  # halving puts them into its first rung
    for params in starts[:count]:
        add(Point(params), "start")
    failed = not_tried_again(history) if manifest.failed_trials == "again" else []
    for trial in failed[: count - len(asks)]:
        add(Point(trial.params, trial.attrs), f"again:{trial.number}")
    if len(asks) < count:
        for point in strategy_of(manifest).propose(manifest, after):
            add(point, manifest.strategy.name, library)
            if len(asks) == count:
                break
    return asks


def not_tried_again(history: History) -> list[Trial]:
    """Return the failed trials of this campaign whose points were asked once: cron would repeat what always fails."""
    tried, failed = {trial.origin for trial in history.trials}, [t for t in history.own if t.state == "failed"]
    return [t for t in failed if not t.origin.startswith("again:") and f"again:{t.number}" not in tried]


def replay(manifest: Manifest, events: list[dict[str, Any]], first: int) -> tuple[int, list[dict[str, Any]]]:
    """Return how many trials from number ``first`` on were asked again, and those that came out differently.

    Each is asked from the lines before it. Trials of earlier campaigns are no asks of this one.
    """
    asked, different = 0, []
    for number, event in enumerate(events):
        if event["event"] != "ask" or event["trial"] < first or event["iteration"] < 0:
            continue
        line = msgspec.convert(event, Ask)
        again = ask(manifest, fold(events[:number]), 1)
        asked += 1
        if not again or (again[0].params, again[0].origin) != (line.params, line.origin):
            found = {"params": again[0].params, "origin": again[0].origin} if again else None
            different.append({"trial": line.trial, "journal": line.params, "again": found})
    return asked, different
