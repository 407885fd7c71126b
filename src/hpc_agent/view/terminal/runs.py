"""Views of runs: what was submitted, where it stands, which runs there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_agent.view.terminal.blocks import (
    Bar,
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
from hpc_agent.view.terminal.evidence import advice, labelled
from hpc_agent.view.terminal.generic import generic
from hpc_agent.view.terminal.words import clock, counted, counts, duration, named, number, pairs, ranges_and_more, size

STEPS_SHOWN = 6
ISOLATION = {"fork": "each packed function has a process of its own", "exec": "each has an interpreter of its own"}
TASK_STATES = ("complete", "running", "pending", "failed", "unknown")


def submit(data: Mapping[str, Any]) -> list[Block]:
    """View of ``submit`` and of what plans alike."""
    tasks = f"{counted(data['total_tasks'], 'task')} on {data['cluster']}"
    blocks: list[Block] = [Title([data["run_id"], f": {tasks}, ", *_outcome(data)])]
    jobs = data.get("job_ids") or []
    facts: list[Fact] = [("jobs", ", ".join(jobs))] if jobs else []
    if data.get("waiting"):
        facts.append(
            ("kept back", f"{counted(data['waiting'], 'array')}: monitor-flow submits what a limit keeps back")
        )
    return [*blocks, Facts([*facts, *plan_facts(data.get("plan") or {})])]


def _outcome(data: Mapping[str, Any]) -> list[str | Cell]:
    if data.get("deduped"):
        return (
            [Cell("submitted before", "warn"), "; it is ", state(data["lifecycle_state"])]
            if data.get("lifecycle_state")
            else [Cell("submitted before", "warn")]
        )
    if data.get("submitted"):
        return [Cell("submitted", "good")]
    return [Cell("planned", "busy"), "; nothing is submitted yet"]


def plan_facts(plan: Mapping[str, Any]) -> list[Fact]:
    """Return a plan as facts: arrays, resources with their origin, the estimate."""
    resources, origin = plan.get("resources") or {}, plan.get("origin") or {}
    facts: list[Fact] = []
    if plan.get("strategy"):
        facts.append(("plan", plan["strategy"]))
    if plan.get("canary"):
        facts.append(("canary", "task 0 goes first; the others wait until verify-canary has seen its result"))
    if resources:
        at_once = plan.get("at_once") or 1
        facts += [(name, text) for name, text in _resources(resources, origin, at_once)]
    if plan.get("pack", 1) > 1 and plan.get("isolate", "warm") != "warm":
        facts.append(("isolate", f"{plan['isolate']}: {ISOLATION[plan['isolate']]}"))
    placed = {
        name: value for name, value in (plan.get("placement") or {}).items() if value not in (None, "", [], False)
    }
    if placed:
        facts.append(("placement", pairs(placed)))
    return [*facts, *_estimate(plan)]


def _resources(resources: Mapping[str, Any], origin: Mapping[str, str], at_once: int) -> list[tuple[str, str]]:
    def with_origin(name: str, text: str) -> str:
        return f"{text} ({origin[name]})" if origin.get(name) and text else text or origin.get(name, "")

    cores = counted(resources.get("cpus") or 1, "core")
    if resources.get("gpus"):
        cores += f", {counted(resources['gpus'], 'GPU')}" + (
            f" ({resources['gpu_type']})" if resources.get("gpu_type") else ""
        )
    if (resources.get("nodes") or 1) > 1:
        cores += f", {counted(resources['nodes'], 'node')}"
    walltime, memory = resources.get("walltime_sec"), resources.get("mem_mb")
    of_each = " for each task" if memory and at_once > 1 else ""
    whole = [counted((resources.get("cpus") or 1) * at_once, "core")]
    whole += [counted(resources["gpus"] * at_once, "GPU")] if resources.get("gpus") else []
    whole += [size(memory * at_once * 1024 * 1024)] if memory else []
    return [
        *([("at once", f"{at_once} tasks: an element asks for {', '.join(whole)}")] if at_once > 1 else []),
        (
            "each task" if at_once > 1 else "each element",
            cores + (", a node of its own" if resources.get("exclusive") else ""),
        ),
        ("walltime", with_origin("walltime_sec", duration(walltime) if walltime else "")),
        ("memory", with_origin("mem_mb", (size(memory * 1024 * 1024) if memory else "") + of_each)),
    ]


def _estimate(plan: Mapping[str, Any]) -> list[Fact]:
    facts: list[Fact] = []
    if plan.get("est_total_wall_sec"):
        facts.append(("estimate", f"about {duration(plan['est_total_wall_sec'])} when nothing else waits"))
    if plan.get("est_core_hours"):
        facts.append(("core-hours", number(float(f"{plan['est_core_hours']:.2g}"))))
    return facts


def submit_and_verify(data: Mapping[str, Any]) -> list[Block]:
    """View of ``submit-and-verify``."""
    blocks = submit({**data, "submitted": data["verified"], "lifecycle_state": ""})
    return [*blocks, Heading("canary"), *verify_canary(data["canary"])] if data.get("canary") else blocks


def verify_canary(data: Mapping[str, Any]) -> list[Block]:
    """View of ``verify-canary``."""
    facts: list[Fact] = [
        (
            "measured",
            ", ".join(
                f"{name.removesuffix('_mb').replace('_', ' ')} {named(name, value)}"
                for name, value in data["measured"].items()
                if value is not None
            ),
        ),
        (
            "asked",
            ", ".join(
                f"{name.removesuffix('_sec').removesuffix('_mb')} {named(name, value)}"
                for name, value in data["asked"].items()
                if value is not None
            ),
        ),
        ("metrics", pairs(data["metrics"] or {}) or "none"),
        ("submitted now", counted(data["released"], "array")),
    ]
    word = Cell("in order", "good") if data["ok"] else state(data["state"])
    warnings: list[Block] = [Para([Cell("Note: ", "warn"), text]) for text in data["warnings"]]
    return [Title([data["run_id"], ": the canary is ", word]), Facts(facts), *warnings]


def batch(data: Mapping[str, Any]) -> list[Block]:
    """View of ``submit-flow-batch``."""
    failed, total = data["n_failed"], data["n_results"]
    title = f"{counted(total - failed, 'run')} of {total} in order"
    rows: list[list[Content]] = []
    for number_, item in enumerate(data["results"]):
        if item["ok"]:
            word = (
                Cell("submitted", "good")
                if item.get("submitted") and not item.get("deduped")
                else Cell("submitted before", "warn")
                if item.get("deduped")
                else state("planned")
            )
            rows.append(
                [str(number_), word, item["run_id"], f"{item['total_tasks']:,}", ", ".join(item.get("job_ids", []))]
            )
        else:
            rows.append([str(number_), Cell("failed", "bad"), "", "", ""])
    columns = [
        Column("spec", right=True),
        Column("outcome"),
        Column("run"),
        Column("tasks", right=True),
        Column("jobs", wraps=True),
    ]
    blocks: list[Block] = [Title(Cell(title, "bad" if failed else "title")), Table(columns, rows)]
    for number_, item in enumerate(data["results"]):
        if not item["ok"]:
            blocks += [Para([Cell(f"spec {number_}: ", "bad"), item["message"]]), Para(item["remediation"], 2)]
        blocks += [Para([Cell(f"spec {number_}: ", "dim"), note]) for note in item.get("notes", [])]
    steps = [item["next_step"] for item in data["results"] if item.get("next_step")]
    if steps:
        blocks += [Gap(), Line(Cell("Next:", "strong")), *(Line(step, 2) for step in steps[:STEPS_SHOWN])]
    return blocks


def resubmit(data: Mapping[str, Any]) -> list[Block]:
    """View of ``resubmit``: what goes again and with which resources, what is left out and why."""
    going = sum(group["count"] for group in data["groups"])
    done = data["resubmitted"]
    outcome = (
        f"{counted(done, 'task')} submitted again"
        if done
        else f"{counted(going, 'task')} to submit again"
        if going
        else "nothing to submit again"
    )
    blocks: list[Block] = [Title([data["run_id"], f": {outcome}"])]
    rows: list[list[Content]] = [
        [
            group["tasks"],
            counts(group["classes"]),
            _short_resources(group["resources"]),
            ", ".join(group.get("exclude_nodes") or []),
        ]
        for group in data["groups"]
    ]
    columns = [
        Column("tasks", wraps=True),
        Column("failed of", wraps=True),
        Column("each asks for", wraps=True),
        Column("not on", wraps=True),
    ]
    blocks.append(
        Table(
            columns if any(row[3] for row in rows) else columns[:3],
            rows if any(row[3] for row in rows) else [row[:3] for row in rows],
        )
    )
    if data["job_ids"]:
        blocks.append(Facts([("jobs", ", ".join(data["job_ids"]))]))
    return [*blocks, *blocked(data["blocked"])]


def _short_resources(resources: Mapping[str, Any]) -> str:
    memory, walltime = resources.get("mem_mb"), resources.get("walltime_sec")
    parts = [counted(resources.get("cpus") or 1, "core")]
    parts += [counted(resources["gpus"], "GPU")] if resources.get("gpus") else []
    parts += [size(memory * 1024 * 1024)] if memory else []
    parts += [duration(walltime)] if walltime else []
    return ", ".join(parts)


def blocked(refusals: list[dict[str, Any]]) -> list[Block]:
    """Return failures that need a person."""
    blocks: list[Block] = [Heading("Left out: a person is needed")] if refusals else []
    for refusal in refusals:
        sample = refusal.get("sample") or {}
        said = sample.get("line") or sample.get("message") or ""
        blocks.append(
            Para(
                [
                    Cell(refusal["class"].replace("_", " "), "bad"),
                    f" in {counted(refusal['count'], 'task')} ({refusal['tasks']}): {refusal['why']}",
                ],
                2,
            )
        )
        blocks += [Para(said, 4)] if said else []
        blocks += advice(refusal["remedy"], 4)
    return blocks


def reproduce_run(data: Mapping[str, Any]) -> list[Block]:
    """View of ``reproduce-run``."""
    blocks = submit({**data, "submitted": not data["deduped"]})
    return [
        *blocks,
        Facts([("repeats", data["reproduces"])]),
        *(Para(f"Not repeated: {text}") for text in data["not_repeated"]),
    ]


def status(data: Mapping[str, Any]) -> list[Block]:
    """View of ``status``: counts of tasks, what failed and why, what waits and for what."""
    last = data["last_status"]
    where = f" on {data['cluster']}" if data.get("cluster") else ""
    total = data.get("total_tasks") or sum(last.get(name, 0) for name in TASK_STATES)
    blocks: list[Block] = [Title([data["run_id"], f"{where}: ", state(data["lifecycle_state"])]), Bar(last, total)]
    which = {
        name: ranges_and_more(data[f"{name}_tasks"])
        for name in ("running", "failed", "unknown")
        if f"{name}_tasks" in data
    }
    rows: list[list[Content]] = [
        [state(name), f"{last[name]:,}", which.get(name, "")] for name in TASK_STATES if last.get(name)
    ]
    rows.append(["total", f"{total:,}", ""])
    columns = [Column("state"), Column("tasks", right=True), Column("which", wraps=True)]
    blocks.append(
        Table(
            columns if any(which.values()) else columns[:2], rows if any(which.values()) else [row[:2] for row in rows]
        )
    )
    return [
        *blocks,
        *_waves(last.get("waves") or {}),
        *_causes(data),
        *_waiting(data.get("waiting") or []),
        *_times(data),
    ]


def _waves(waves: Mapping[str, dict[str, int]]) -> list[Block]:
    if len(waves) < 2:
        return []
    rows: list[list[Content]] = [
        [name, *(f"{facts.get(state_, 0):,}" if facts.get(state_) else "" for state_ in TASK_STATES)]
        for name, facts in waves.items()
    ]
    return [
        Heading("Waves"),
        Table([Column("wave", right=True), *(Column(name, right=True) for name in TASK_STATES)], rows, 2),
    ]


def _causes(data: Mapping[str, Any]) -> list[Block]:
    causes, samples = data.get("failures_by_cause") or {}, data.get("samples") or []
    if not causes:
        return []
    known = {sample["cause"]: sample for sample in reversed(samples) if sample.get("cause")}
    rows: list[list[Content]] = []
    for name, count in sorted(causes.items(), key=lambda item: -item[1]):
        sample = known.get(name, {})
        told = (
            f"task {sample['task']} on {sample.get('host') or 'an unknown node'}: {sample.get('message') or ''}"
            if sample
            else ""
        )
        rows.append([Cell(name.replace("_", " "), "bad"), f"{count:,}", told])
    return [
        Heading("Why tasks failed"),
        Table([Column("cause"), Column("tasks", right=True), Column("for example", wraps=True)], rows, 2),
    ]


def _waiting(waiting: list[dict[str, Any]]) -> list[Block]:
    if not waiting:
        return []
    rows: list[list[Content]] = [
        [f"{row['count']:,}", Cell(row["sentence"], "" if row.get("passes", True) else "warn")] for row in waiting
    ]
    return [Heading("Why tasks wait"), Table([Column("tasks", right=True), Column("reason", wraps=True)], rows, 2)]


def _times(data: Mapping[str, Any]) -> list[Block]:
    facts: list[Fact] = []
    if data.get("mean_task_seconds"):
        facts.append(("a task takes", duration(data["mean_task_seconds"])))
    if data.get("eta_seconds"):
        facts.append(("ends in about", duration(data["eta_seconds"])))
    if data.get("resubmitted"):
        facts.append(("submitted again", counted(data["resubmitted"], "task")))
    if data.get("stopped_early"):
        facts.append(("ended early", counted(data["stopped_early"], "task")))
    if data.get("to_submit"):
        facts.append(("kept back", f"{counted(data['to_submit'], 'array')}: monitor-flow submits them"))
    if data.get("stuck"):
        facts.append(("stuck", Cell(f"{counted(data['stuck'], 'task')} will not start without you", "warn")))
    stale: list[Block] = []
    if data.get("stale"):
        stale = [Para([Cell("Not up to date: ", "warn"), str(data["stale"].get("error", ""))])]
    return [*([Heading("Times")] if facts else []), Facts(facts, 2), *stale]


def monitor_flow(data: Mapping[str, Any]) -> list[Block]:
    """View of ``monitor-flow``: the last look, and what the watch did."""
    blocks = status(data)
    facts: list[Fact] = [("watched for", f"{duration(data['elapsed_seconds'])}, {counted(data['ticks'], 'look')}")]
    if data.get("resubmitted"):
        facts.append(("submitted again", counted(data["resubmitted"], "task")))
    return [*blocks, Heading("This watch"), Facts(facts, 2), *blocked(data.get("blocked") or [])]


def watch(data: Mapping[str, Any]) -> list[Block]:
    """View of ``watch``: its picture is on the terminal already, so one line a run."""
    rows: list[list[Content]] = [
        [run["run_id"], state(run["lifecycle_state"]), counts(run["last_status"]), counts(run["failures_by_cause"])]
        for run in data["runs"]
    ]
    columns = [Column("run"), Column("state"), Column("tasks", wraps=True), Column("causes", wraps=True)]
    return [
        Table(
            columns if any(row[3] for row in rows) else columns[:3],
            rows if any(row[3] for row in rows) else [row[:3] for row in rows],
        )
    ]


def run_rows(runs: list[dict[str, Any]]) -> Table:
    """Return a table of runs, as lists have them."""
    rows: list[list[Content]] = [
        [
            run["run_id"],
            run.get("cluster", ""),
            Cell(f"pruned {clock(run['pruned_at'])[:10]}", "dim")
            if run.get("pruned_at")
            else state(run.get("status", "")),
            f"{(run.get('last_status') or {}).get('complete', 0):,}/{run.get('total_tasks') or 0:,}",
            f"{failed:,}" if (failed := (run.get("last_status") or {}).get("failed", 0)) else "",
            clock(run["submitted_at"]) if run.get("submitted_at") else "",
        ]
        for run in runs
    ]
    columns = [
        Column("run"),
        Column("cluster"),
        Column("state"),
        Column("complete", right=True),
        Column("failed", right=True),
        Column("submitted"),
    ]
    return Table(columns, rows)


def list_in_flight(data: Mapping[str, Any]) -> list[Block]:
    """View of ``list-in-flight``."""
    runs = data["runs"]
    if not runs:
        return [
            Line("No run of this repo is under way."),
            Line(["Runs that have ended: ", "hpc-agent list-in-flight --all-states"]),
        ]
    hidden = data["total_matching"] - len(runs)
    more: list[Block] = (
        [Line(f"{counted(hidden, 'more run')}: --limit {data['total_matching']} shows them")] if hidden > 0 else []
    )
    return [run_rows(runs), *more]


def monitor_summary(data: Mapping[str, Any]) -> list[Block]:
    """View of ``monitor-summary``, which brings its words."""
    return [Title(data["headline"]), Raw(data.get("body") or "", hang=0)]


def submit_plan(data: Mapping[str, Any]) -> list[Block]:
    """View of ``summarize-submit-plan``, which brings its words."""
    return [Title(data["headline"]), Facts(labelled(data["body"].split("\n"), 11))]


def changed_constraints(data: Mapping[str, Any]) -> list[Block]:
    """View of ``update-run-constraints``."""
    facts: list[Fact] = [("changed", ", ".join(data["job_ids_updated"]) or "no job")]
    facts += [("left alone", f"{job}: {why}") for job, why in data["job_ids_left"].items()]
    facts += [("refused", Cell(f"{job}: {why}", "bad")) for job, why in data["job_ids_failed"].items()]
    facts += [("will ask for it", ", ".join(data["planned_updated"]))] if data["planned_updated"] else []
    facts += [("constraint", f"{name or 'none'}: {arrays}") for name, arrays in data["new_features"].items()]
    return [Title(data["run_id"]), Facts(facts)]


def other(data: Mapping[str, Any]) -> list[Block]:
    """View of an answer about one run without a shape of its own."""
    rest = {name: value for name, value in data.items() if name != "run_id"}
    return [Title(data["run_id"]), *generic(rest)] if data.get("run_id") else generic(data)
