"""Make the document of a campaign's report from its manifest and the fold of its journal. No cluster is asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hpc_agent import __version__
from hpc_agent.campaign.journal import SEEDED, History, Trial, counts_of, feasible
from hpc_agent.campaign.manifest import Manifest, Parameter
from hpc_agent.campaign.stopping import LIMITS, Spent
from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared import binning
from hpc_agent.node.shared.metric_names import best_end, main_metric, sign_of
from hpc_agent.view.report.data import Campaign, Gap, ReportData, Section
from hpc_agent.view.report.numbers import cell, moment, number
from hpc_agent.view.terminal.words import counted

RUNS_SHOWN = 12


def campaign_data(
    manifest: Manifest,
    history: History,
    spent: Spent,
    now: float,
    metric: str | None,
    direction: str,
    onward: str = "",
) -> ReportData:
    """Return the document of a campaign's page; ``now`` is in seconds since the epoch. Raises SpecInvalid for the metric.

    ``onward``: the command that goes on with the campaign.
    """
    known = {one.name: one.direction for one in manifest.metrics}
    names = {name for trial in history.trials for name in trial.values} | set(known)
    if metric is not None and metric not in names:
        remedy = f"{did_you_mean(metric, names)}Name one of these: {', '.join(sorted(names)[:20])}." if names else None
        message = f"no trial of '{manifest.campaign_id}' has a metric '{metric}'"
        raise SpecInvalid(message, field="metric", remediation=remedy)
    main = metric or manifest.stop_criteria.metric or next(iter(known), None) or main_metric(names)
    better = best_end(known.get(main or "") if direction == "auto" else direction, main)
    ended = [trial for trial in history.trials if trial.values]
    points = [(trial.params, trial.values) for trial in ended if trial.state == "complete"]
    ranked = _ranked(manifest, history, main)
    left_out = []
    if history.runs:
        each = "each run has a page of its own (hpc-agent report --run-id RUN)"
        left_out.append(f"usage, waves and logs of the runs: {each}")
    if others := len(ended) - len(points):
        left_out.append(f"the charts of parameters leave out {counted(others, 'trial')} without a final value")
    return ReportData(
        kind="campaign",
        title=manifest.campaign_id,
        about=_about(manifest, history),
        made_at=now,
        version=__version__,
        noun="trial",
        total=len(history.own),
        counts=counts_of(history.own),
        gaps=_gaps(history.own, manifest, onward),
        main=main,
        direction=better,
        rows=binning.table_rows(_rows(ended, manifest, history, ranked), main),
        binned=binning.binned(points, main, [name for name, parameter in manifest.space.items() if parameter.log]),
        provenance=_provenance(manifest, history),
        campaign=_history(manifest, history, spent, main, better, ranked),
        left_out=left_out,
    )


def _ranked(manifest: Manifest, history: History, main: str | None) -> set[int]:
    """Return the numbers of the trials of which one is the best: those that the campaign ranks, if its metric is known."""
    complete = [trial for trial in history.own if trial.state == "complete"]
    trials = history.ranked(manifest) if manifest.metric() else complete
    return {trial.number for trial in trials if main in trial.values}


def _rows(ended: list[Trial], manifest: Manifest, history: History, ranked: set[int]) -> list[dict[str, Any]]:
    """Return a row for each trial: its parameters, and number, origin and state where they differ."""
    front = {trial.number for trial in history.pareto_front(manifest)} if len(manifest.metrics) > 1 else set()
    facts: dict[str, list[Any]] = {
        "trial": [trial.number for trial in ended],
        "front": ["Pareto" if trial.number in front else "" for trial in ended],
        "origin": [trial.origin.removeprefix(SEEDED) or "own" for trial in ended],
        "state": [_state(trial, manifest) for trial in ended],
    }
    shown = {name: values for name, values in facts.items() if len(set(values)) > 1}
    return [
        {
            "kwargs": trial.params | {name: found[at] for name, found in shown.items() if name not in trial.params},
            "count": 1,
            "metrics": {name: {"mean": value, "std": None, "count": 1} for name, value in trial.values.items()},
            "unranked": trial.number not in ranked,
            "uncharted": trial.state != "complete",
        }
        for at, trial in enumerate(ended)
    ]


def _state(trial: Trial, manifest: Manifest) -> str:
    if trial.state == "stopped":
        return "ended early" if trial.stopped_at is None else f"ended early, step {trial.stopped_at}"
    return trial.state if feasible(manifest, trial) else "outside of the constraints"


def _about(manifest: Manifest, history: History) -> str:
    told = f"strategy {manifest.strategy.name}, {counted(len(history.iterations), 'iteration')}"
    if history.earlier:
        told += f", {counted(len(history.earlier), 'more trial')} known from earlier campaigns"
    told += f", stopped ({history.stopped.reason}): {history.stopped.detail}" if history.stopped else ""
    return f"{manifest.goal} \N{EN DASH} {told}" if manifest.goal else told


def _gaps(own: list[Trial], manifest: Manifest, onward: str) -> list[Gap]:
    gaps = []
    if failed := [trial for trial in own if trial.state == "failed"]:
        causes = Counter(trial.why or "cause not recorded" for trial in failed).most_common(4)
        told = "; ".join(f"{why} ({trials})" for why, trials in causes)
        ran = [trial for trial in failed if trial.run_id]
        usual = next((trial for trial in ran if trial.why == causes[0][0]), ran[0] if ran else None)
        command = usual.evidence if usual else ""
        gaps.append(Gap(what=f"{counted(len(failed), 'trial')} failed: {told}", command=command))
    if stopped := sum(trial.state == "stopped" for trial in own):
        gaps.append(Gap(what=f"{counted(stopped, 'trial')} ended early, by the rule of early_stop: no final value"))
    if waiting := sum(trial.is_open for trial in own):
        gaps.append(Gap(what=f"{counted(waiting, 'trial')} not ended yet", command=onward))
    if not own:
        gaps.append(Gap(what="no trial has been asked yet", command=onward))
    if outside := sum(trial.state == "complete" and not feasible(manifest, trial) for trial in own):
        gaps.append(Gap(what=f"{counted(outside, 'trial')} outside of the constraints: never the best"))
    return gaps


def _history(
    manifest: Manifest, history: History, spent: Spent, main: str | None, direction: str | None, ranked: set[int]
) -> Campaign:
    criteria = manifest.stop_criteria
    told = Campaign(
        iterations=len(history.iterations),
        core_hours=spent.core_hours,
        failed=[trial.number for trial in history.trials if trial.state == "failed"],
        earlier=len(history.earlier),
        target=criteria.target if criteria.metric in (None, main) else None,
    )
    sign = sign_of(direction) if direction else 0
    for trial in history.trials:
        if (value := trial.values.get(main or "")) is None:
            continue
        (told.trials if trial.state == "complete" else told.early).append((trial.number, value))
        if sign and trial.number in ranked and (not told.best or sign * value < sign * told.best[-1][1]):
            told.best.append((trial.number, value))
    if len(manifest.metrics) > 1:
        (first, second), front = (metric.name for metric in manifest.metrics[:2]), history.pareto_front(manifest)
        told.objectives = [f"{one.name} ({one.direction})" for one in manifest.metrics[:2]]
        both = [t for t in history.trials if t.state == "complete" and {first, second} <= t.values.keys()]
        told.both, told.front = ([(t.values[first], t.values[second]) for t in trials] for trials in (both, front))
    told.budget = [(used.replace("_", " "), float(getattr(spent, used)), float(limit)) for name, used in LIMITS.items()
                   if (limit := getattr(manifest.budget, name)) is not None]  # fmt: skip
    return told


def _provenance(manifest: Manifest, history: History) -> list[Section]:
    libraries = sorted({trial.library for trial in history.trials if trial.library})
    sources = [f"{one.campaign_id} ({one.trials} trials, {one.experiment_dir})" for one in manifest.seed_from]
    runs = list(history.runs) or sorted({trial.run_id for trial in history.trials if trial.run_id})
    earlier = f" and {len(runs) - RUNS_SHOWN} earlier ones" if len(runs) > RUNS_SHOWN else ""
    facts = [("Campaign", manifest.campaign_id), ("Begun", manifest.created_at), ("Strategy", manifest.strategy.name),
             ("Options", ", ".join(f"{name} = {value}" for name, value in manifest.strategy.params.items())),
             ("Seed", "" if manifest.is_own else str(manifest.seed)), ("Library", ", ".join(libraries)),
             ("Mode", "" if manifest.is_own else manifest.mode), ("Failed trials", manifest.failed_trials),
             ("Known from the start", ", ".join(sources)), ("Runs", ", ".join(runs[-RUNS_SHOWN:]) + earlier),
             ("Last line", moment(max([t.told_at or t.asked_at for t in history.trials] or [0.0])))]  # fmt: skip
    space = [(name, _space(parameter)) for name, parameter in manifest.space.items()]
    bounds = [(one.metric, _bounds(one.at_least, one.at_most)) for one in manifest.constraints]
    sections = [Section.of_known(*part) for part in (("Campaign", facts), ("Searched", space), ("Constraints", bounds))]
    return [section for section in sections if section.facts]


def _space(parameter: Parameter) -> str:
    if parameter.type == "categorical":
        return ", ".join(map(cell, parameter.values))
    words = [f"{parameter.type}, {number(parameter.low or 0.0)} to {number(parameter.high or 0.0)}"]
    words += ["logarithmic"] if parameter.log else []
    words += [f"steps of {number(parameter.step)}"] if parameter.step else []
    return ", ".join(words)


def _bounds(least: float | None, most: float | None) -> str:
    told = [f"at least {number(least)}"] if least is not None else []
    return ", ".join(told + ([f"at most {number(most)}"] if most is not None else []))
