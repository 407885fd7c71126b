"""Make the document of a campaign's report from its manifest and the fold of its journal. No cluster is asked."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hpc_agent import __version__
from hpc_agent.campaign.journal import SEEDED, History, Trial, counts_of, feasible
from hpc_agent.campaign.manifest import Manifest, Parameter
from hpc_agent.campaign.stopping import LIMITS, Spent
from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared import binning
from hpc_agent.node.shared.metric_names import best_end, main_metric, sign_of
from hpc_agent.view.report.data import Campaign, Gap, ReportData, Section
from hpc_agent.view.report.numbers import cell, count, moment, number

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
        remedy = f"Name one of these: {', '.join(sorted(names)[:20])}." if names else None
        message = f"no trial of '{manifest.campaign_id}' has a metric '{metric}'"
        raise SpecInvalid(message, field="metric", remediation=remedy)
    main = metric or manifest.stop_criteria.metric or next(iter(known), None) or main_metric(names)
    told = known.get(main or "") if direction == "auto" else direction
    better = best_end(told, main)
    own = history.own
    ended = [trial for trial in history.trials if trial.values]
    points = [(trial.params, trial.values) for trial in ended if trial.state == "complete"]
    logarithmic = [name for name, parameter in manifest.space.items() if parameter.log]
    left_out = []
    if history.runs:
        left_out.append(
            "usage, waves and logs of the runs: each run has a page of its own (hpc-agent report --run-id RUN)"
        )
    if len(points) < len(ended):
        left_out.append(
            f"the charts of parameters leave out {count(len(ended) - len(points), 'trial')} without a final value"
        )
    return ReportData(
        kind="campaign",
        title=manifest.campaign_id,
        about=_about(manifest, history),
        made_at=now,
        version=__version__,
        noun="trial",
        total=len(own),
        counts=counts_of(own),
        gaps=_gaps(own, manifest, onward),
        main=main,
        direction=better,
        rows=binning.table_rows(_rows(ended, manifest, history, main), main),
        binned=binning.binned(points, main, logarithmic),
        provenance=_provenance(manifest, history),
        campaign=_history(manifest, history, spent, main, better),
        left_out=left_out,
    )


def _rows(ended: list[Trial], manifest: Manifest, history: History, main: str | None) -> list[dict[str, Any]]:
    """Return a row for each trial: its parameters, number, origin and state. Only those that may be the best are ranked."""
    ranked = {trial.number for trial in _ranked(manifest, history, main)}
    front = {trial.number for trial in history.pareto_front(manifest)} if len(manifest.metrics) > 1 else ()
    facts = [
        {
            "trial": trial.number,
            "front": "Pareto" if trial.number in front else "",
            "origin": trial.origin.removeprefix(SEEDED) or "own",
            "state": _state(trial, manifest),
        }
        for trial in ended
    ]
    shown = [name for name in ("trial", "front", "origin", "state") if len({fact[name] for fact in facts}) > 1]
    return [
        {
            "kwargs": {**trial.params, **{name: fact[name] for name in shown if name not in trial.params}},
            "count": 1,
            "metrics": {name: {"mean": value, "std": None, "count": 1} for name, value in trial.values.items()},
            "unranked": trial.number not in ranked,
            "uncharted": trial.state != "complete",
        }
        for trial, fact in zip(ended, facts, strict=True)
    ]


def _state(trial: Trial, manifest: Manifest) -> str:
    if trial.state == "stopped":
        return "ended early" if trial.stopped_at is None else f"ended early, step {trial.stopped_at}"
    return trial.state if feasible(manifest, trial) else "outside of the constraints"


def _ranked(manifest: Manifest, history: History, main: str | None) -> list[Trial]:
    """Return the trials of which one is the best: those that the campaign ranks."""
    trials = history.ranked(manifest) or [trial for trial in history.own if trial.state == "complete"]
    return [trial for trial in trials if main in trial.values]


def _about(manifest: Manifest, history: History) -> str:
    told = f"strategy {manifest.strategy.name}, {count(len(history.iterations), 'iteration')}"
    if history.earlier:
        told += f", {count(len(history.earlier), 'more trial')} known from earlier campaigns"
    told += f", stopped ({history.stopped.reason}): {history.stopped.detail}" if history.stopped else ""
    return f"{manifest.goal} \N{EN DASH} {told}" if manifest.goal else told


def _gaps(own: list[Trial], manifest: Manifest, onward: str) -> list[Gap]:
    gaps = []
    if failed := [trial for trial in own if trial.state == "failed"]:
        causes = Counter(trial.why or "cause not recorded" for trial in failed)
        run = next((trial.run_id for trial in failed if trial.run_id), "")
        causes_told = "; ".join(f"{why} ({trials})" for why, trials in causes.most_common(4))
        gaps.append(Gap(what=f"{_trials(failed)} failed: {causes_told}",
                        command=f"hpc-agent failures --run-id {run}" if run else ""))  # fmt: skip
    if stopped := [trial for trial in own if trial.state == "stopped"]:
        gaps.append(Gap(what=f"{_trials(stopped)} ended early, by the rule of early_stop: no final value"))
    if waiting := [trial for trial in own if trial.is_open]:
        gaps.append(Gap(what=f"{_trials(waiting)} not ended yet", command=onward))
    if not own:
        gaps.append(Gap(what="no trial has been asked yet", command=onward))
    outside = [trial for trial in own if trial.state == "complete" and not feasible(manifest, trial)]
    if outside:
        gaps.append(Gap(what=f"{_trials(outside)} outside of the constraints: never the best"))
    return gaps


def _trials(found: list[Trial]) -> str:
    return count(len(found), "trial")


def _history(manifest: Manifest, history: History, spent: Spent, main: str | None, direction: str | None) -> Campaign:
    told = Campaign(
        iterations=len(history.iterations),
        core_hours=spent.core_hours,
        failed=[trial.number for trial in history.trials if trial.state == "failed"],
        earlier=len(history.earlier),
    )
    ranked = {trial.number for trial in _ranked(manifest, history, main)}
    criteria = manifest.stop_criteria
    told.target = criteria.target if criteria.metric in (None, main) else None
    for trial in history.trials:
        value = trial.values.get(main or "")
        if value is None:
            continue
        (told.trials if trial.state == "complete" else told.early).append((trial.number, value))
        sign = sign_of(direction) if direction and trial.number in ranked else 0
        if sign and (not told.best or sign * value < sign * told.best[-1][1]):
            told.best.append((trial.number, value))
    if len(manifest.metrics) > 1:
        first, second = (metric.name for metric in manifest.metrics[:2])
        told.objectives = [f"{one.name} ({one.direction})" for one in manifest.metrics[:2]]
        told.both = [
            (trial.values[first], trial.values[second])
            for trial in history.trials
            if trial.state == "complete" and {first, second} <= trial.values.keys()
        ]
        told.front = [(t.values[first], t.values[second]) for t in history.pareto_front(manifest)]
    limits = {name: getattr(manifest.budget, name) for name in LIMITS}
    told.budget = [(LIMITS[name].replace("_", " "), float(getattr(spent, LIMITS[name])), float(limit))
                   for name, limit in limits.items() if limit is not None]  # fmt: skip
    return told


def _provenance(manifest: Manifest, history: History) -> list[Section]:
    libraries = sorted({trial.library for trial in history.trials if trial.library})
    sources = [f"{one.campaign_id} ({one.trials} trials, {one.experiment_dir})" for one in manifest.seed_from]
    runs = list(history.runs) or sorted({trial.run_id for trial in history.trials if trial.run_id})
    shown = ", ".join(runs[-RUNS_SHOWN:])
    more = f" and {len(runs) - RUNS_SHOWN} earlier ones" if len(runs) > RUNS_SHOWN else ""
    facts = [("Campaign", manifest.campaign_id), ("Begun", manifest.created_at), ("Strategy", manifest.strategy.name),
             ("Options", ", ".join(f"{name} = {value}" for name, value in manifest.strategy.params.items())),
             ("Seed", "" if manifest.is_own else str(manifest.seed)), ("Library", ", ".join(libraries)),
             ("Mode", "" if manifest.is_own else manifest.mode), ("Failed trials", manifest.failed_trials),
             ("Known from the start", ", ".join(sources)), ("Runs", shown + more),
             ("Last line", moment(max([t.told_at or t.asked_at for t in history.trials] or [0.0])))]  # fmt: skip
    space = [(name, _space(parameter)) for name, parameter in manifest.space.items()]
    bounds = [(one.metric, _bounds(one.at_least, one.at_most)) for one in manifest.constraints]
    sections = [Section(title="Campaign", facts=[(name, value) for name, value in facts if value])]
    sections += [
        Section(title=title, facts=found) for title, found in (("Searched", space), ("Constraints", bounds)) if found
    ]
    return sections


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
