"""Views of campaigns: where one stands, its trials, the list of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_agent.view.terminal.blocks import (
    Block,
    Cell,
    Column,
    Content,
    Fact,
    Facts,
    Gap,
    Heading,
    Line,
    Para,
    Raw,
    Table,
    Title,
    state,
)
from hpc_agent.view.terminal.generic import generic, label
from hpc_agent.view.terminal.runs import run_rows
from hpc_agent.view.terminal.tables import number_table
from hpc_agent.view.terminal.words import brief, clock, counted, counts, named, pairs

_STYLES = {"continue": "busy", "wait_in_flight": "busy", "at_work": "busy", "stop_converged": "good"}


def campaign(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-status`` and ``campaign-driver``: decision, trials, best, budget, iterations."""
    decision = data["decision"]
    word = Cell(decision.replace("_", " "), _STYLES.get(decision, "warn"))
    facts: list[Fact] = [(name, str(data[name])) for name in ("detail", "goal", "strategy") if data.get(name)]
    facts += [("trials", counts(data["trials"]))] if data.get("trials") else []
    facts += [
        (label(name), counted(data[name], word_))
        for name, word_ in (("asked", "trial"), ("told", "end"), ("earlier_trials", "trial"))
        if data.get(name)
    ]
    facts += [("submitted now", ", ".join(data["submitted"]))] if data.get("submitted") else []
    best = data.get("best")
    if best:
        facts.append(("best", [Cell(pairs(best["values"]), "good"), f" at {pairs(best['params'])}"]))
        facts.append(
            (
                "",
                f"trial {best['trial']}"
                + (f", task {best['task_id']} of {best['run_id']}" if best.get("run_id") else ""),
            )
        )
    blocks: list[Block] = [Title([data["campaign_id"], ": ", word]), Facts(facts)]
    blocks += _budget(data)
    if data.get("pareto_front"):
        points: list[list[Content]] = [
            [str(one["trial"]), pairs(one["values"]), pairs(one["params"])] for one in data["pareto_front"]
        ]
        columns = [Column("trial", right=True), Column("values", wraps=True), Column("parameters", wraps=True)]
        blocks += [
            Heading(f"Trials that no other beats ({data.get('pareto_count', len(points))})"),
            Table(columns, points),
        ]
    blocks += history(data.get("history") or [])
    flying = data.get("in_flight")
    if flying:
        blocks += [
            Heading("In flight"),
            run_rows(flying) if isinstance(flying[0], Mapping) else Line(", ".join(map(str, flying))),
        ]
    return [*blocks, *raise_limit(data)]


def _budget(data: Mapping[str, Any]) -> list[Block]:
    spent, left = data.get("spent") or {}, data.get("remaining") or {}
    if not spent and not left:
        return []
    rows: list[list[Content]] = [
        [
            label(name),
            named(name, spent.get(name, spent.get(f"max_{name}", 0))),
            named(name, left[key]) if (key := f"max_{name}") in left else "",
        ]
        for name in spent
    ]
    return [Heading("Budget"), Table([Column("of"), Column("spent", right=True), Column("left", right=True)], rows)]


def raise_limit(data: Mapping[str, Any]) -> list[Block]:
    """Return the command that lets a campaign go on that has used up its budget."""
    command = data.get("raise_command")
    return [Gap(), Line(Cell("To go on with a larger budget:", "strong")), Line(command, 2)] if command else []


def history(rows: list[dict[str, Any]]) -> list[Block]:
    """Return the iterations as a table."""
    if not rows:
        return []
    names = [
        name for name in dict.fromkeys(name for row in rows for name in row) if not isinstance(rows[0].get(name), dict)
    ]
    names.sort(key=lambda name: (name != "iteration", name == "best"))
    return [
        Heading("Iterations"),
        number_table([label(name) for name in names], [[row.get(name) for name in names] for row in rows]),
    ]


def advance(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-advance``: the decision and what it rests on."""
    budget, converged = data.get("budget") or {}, data.get("converged") or {}
    facts: list[Fact] = [("why", data["detail"])] if data.get("detail") else []
    if converged.get("metric"):
        facts.append(
            (
                "best",
                f"{converged['metric']} {brief(converged['best_metric'])} after {counted(converged['iterations'], 'iteration')}",
            )
        )
    decision = data["decision"]
    title = Title([data["campaign_id"], ": ", Cell(decision.replace("_", " "), _STYLES.get(decision, "warn"))])
    return [title, Facts(facts), *_budget(budget), *raise_limit(data)]


def budget(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-budget``."""
    word = Cell("used up", "warn") if data["exhausted"] else Cell("not used up", "good")
    limits: list[Fact] = [
        (label(name), named(name, value)) for name, value in data["budget"].items() if value is not None
    ]
    why: list[Fact] = [("why", data["reason"])] if data.get("reason") else []
    return [Title([data["campaign_id"], ": the budget is ", word]), Facts([*why, *limits]), *_budget(data)]


def campaigns(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-list``."""
    rows: list[list[Content]] = []
    for one in data["campaigns"]:
        trials = {
            name: value for name, value in one.items() if name in ("complete", "failed", "open", "stopped", "running")
        }
        best = one.get("best")
        rows.append(
            [
                one["campaign_id"],
                one.get("strategy") or "",
                str(one.get("iterations", "")),
                counts(trials),
                pairs(best) if isinstance(best, Mapping) else brief(best) if best is not None else "",
                one.get("stop_reason") or "goes on",
            ]
        )
    columns = [
        Column("campaign"),
        Column("strategy"),
        Column("iterations", right=True),
        Column("trials", wraps=True),
        Column("best", wraps=True),
        Column("state"),
    ]
    return (
        [Table(columns, rows)]
        if rows
        else [Line("This repo has no campaign."), Line(["Begin one: ", "hpc-agent campaign-init --help"])]
    )


def replay(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-replay``: the trials of each iteration."""
    blocks: list[Block] = [Title(f"{data['campaign_id']}: {counted(data['total_iterations'], 'iteration')}")]
    for one in data["iterations"]:
        when = f", {clock(one['submitted_at'])}" if one.get("submitted_at") else ""
        means = f": mean {pairs(one['metrics'])}" if one.get("metrics") else ""
        blocks += [
            Heading(f"Iteration {one['iteration']}{means}"),
            Line(Cell(f"{one.get('run_id') or ''}{when} {one.get('status', '')}", "dim")),
        ]
        blocks.append(number_table(data["columns"], one["trials"]))
    return blocks


def health(data: Mapping[str, Any]) -> list[Block]:
    """View of ``campaign-health`` and of other answers about one campaign."""
    rest = {name: value for name, value in data.items() if name != "campaign_id"}
    return [Title(data["campaign_id"]), *generic(rest)]


def worker(data: Mapping[str, Any]) -> list[Block]:
    """View of ``run``: what became of the workflow, what the worker chose, what it noticed."""
    if data.get("prompt"):
        return [Raw(data["prompt"])]
    result = data.get("result") or {}
    blocks: list[Block] = [Title([f"{data['workflow']}: ", state(str(result.get("status", "unknown")))])]
    blocks += [Para(result["summary"])] if result.get("summary") else []
    facts: list[Fact] = [("runs", ", ".join(result["run_ids"]))] if result.get("run_ids") else []
    if data.get("num_turns") is not None:
        facts.append(("turns", str(data["num_turns"])))
    if data.get("total_cost_usd") is not None:
        facts.append(("cost", f"{data['total_cost_usd']:.2f} USD"))
    blocks.append(Facts(facts))
    if data.get("decisions"):
        rows: list[list[Content]] = [[one["field"], brief(one["value"]), one["why"]] for one in data["decisions"]]
        columns = [Column("field"), Column("value", wraps=True), Column("why", wraps=True)]
        blocks += [Heading("What the worker chose"), Table(columns, rows)]
    blocks += [Para([Cell("Noticed: ", "warn"), text]) for text in data.get("anomalies") or []]
    blocks += [Para([Cell("To decide: ", "warn"), brief(one)]) for one in result.get("ambiguities") or []]
    command = result.get("next_command")
    return [*blocks, Gap(), Line(Cell("Next:", "strong")), Line(command, 2)] if command else blocks
