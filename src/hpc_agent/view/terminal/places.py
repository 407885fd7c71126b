"""Views of clusters, of a repo and what is in it, of the verbs themselves."""

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
    Table,
    Title,
)
from hpc_agent.view.terminal.generic import below, content, label, table
from hpc_agent.view.terminal.runs import plan_facts, run_rows
from hpc_agent.view.terminal.words import brief, clock, counted, pairs

# In the order of a run's life, which JSON does not keep.
STAGES = (
    "setup", "author", "validate", "plan", "submit", "monitor", "recover", "aggregate", "report", "provenance", "campaign",
    "memory", "agents", "introspect",
)  # fmt: skip


def clusters(data: Mapping[str, Any]) -> list[Block]:
    """View of ``clusters-list``: which are ready, and what the others lack."""
    rows: list[list[Content]] = [
        [
            one["name"],
            one["scheduler"],
            one.get("host") or "this machine",
            Cell("ready", "good") if one["ready"] else Cell("not ready", "warn"),
        ]
        for one in data["clusters"]
    ]
    blocks: list[Block] = [Table([Column("cluster"), Column("scheduler"), Column("host"), Column("state")], rows)]
    for one in data["clusters"]:
        if one["problems"]:
            blocks.append(Heading(f"{one['name']} needs"))
            blocks += [Para(problem, 2) for problem in one["problems"]]
    return blocks


def cluster(data: Mapping[str, Any]) -> list[Block]:
    """View of ``clusters-describe``: what is set, and by which file."""
    sources = data.get("sources") or {}
    config = {name: value for name, value in data["config"].items() if name != "name"}
    limits = config.pop("constraints", None) or {}
    values = [(name, value, sources.get(name, "")) for name, value in config.items()]
    values += [(name, value, sources.get("constraints", "")) for name, value in limits.items()]
    rows = [
        (label(name), content(name, value), path) for name, value, path in values if value not in (None, "", [], {})
    ]
    by_file: dict[str, list[Fact]] = {}
    for name, value, path in rows:
        by_file.setdefault(path, []).append((name, value))
    blocks: list[Block] = [Title(data["name"])]
    for path, facts in sorted(by_file.items(), key=lambda item: not item[0]):
        blocks += [Heading(f"set in {path}" if path else "by default"), Facts(facts, 2)]
    return blocks


def context(data: Mapping[str, Any]) -> list[Block]:
    """View of ``load-context``: the runs of a repo."""
    blocks: list[Block] = [Title(data["experiment_dir"])]
    if not data["has_tasks_py"]:
        blocks.append(Line("There is no .hpc/tasks.py yet."))
    if data["in_flight"]:
        blocks += [Heading(f"Under way ({data['in_flight_count']})"), run_rows(data["in_flight"])]
    latest = data.get("latest_run")
    if latest and latest not in data["in_flight"]:
        blocks += [Heading("Latest run"), run_rows([latest])]
        if latest.get("output"):
            blocks.append(Line([Cell("results: ", "dim"), latest["output"]]))
    if data["campaigns"]:
        blocks += [
            Heading("Campaigns"),
            Facts([(name, counted(count, "run")) for name, count in data["campaigns"].items()], 2),
        ]
    return blocks


def executors(data: Mapping[str, Any]) -> list[Block]:
    """View of ``discover-executors``: each script with its parameters."""
    found = data["executors"]
    blocks: list[Block] = [Title(f"{counted(len(found), 'executor')} found")]
    for one in found:
        doc = f": {first_line(one['doc'])}" if one.get("doc") else ""
        blocks += [Gap(), Para([Cell(one["path"], "strong"), doc])]
        blocks += _flags(one["flags"])
        blocks += [
            Para(f"subcommand {each['name']}: {' '.join(flag['name'] for flag in each['flags'])}", 2)
            for each in one["subcommands"]
        ]
        blocks += [Para([Cell("Note: ", "warn"), note], 2) for note in one["notes"]]
        if not one["complete"]:
            blocks.append(Para([Cell("Note: ", "warn"), "not all parameters can be read off the source"], 2))
    missing = data.get("help") or {}
    return [*blocks, *([Heading("Only --help shows"), *below(missing, 1)] if missing else [])]


def functions(data: Mapping[str, Any]) -> list[Block]:
    """View of ``discover-runs``: functions under ``@register_run``."""
    blocks: list[Block] = [Title(f"{counted(len(data['runs']), 'registered function')} found")]
    for one in data["runs"]:
        place = f"{one['path']}:{one['line']}"
        blocks += [
            Gap(),
            Para([Cell(one["name"], "strong"), f" in {place}: {first_line(one.get('doc') or '')}".rstrip(": ")]),
        ]
        blocks += _flags(one["flags"])
        blocks += [Para([Cell("Note: ", "warn"), one["problem"]], 2)] if one.get("problem") else []
    return blocks


def _flags(flags: list[dict[str, Any]]) -> list[Block]:
    rows: list[list[Content]] = []
    for flag in flags:
        if flag.get("hidden"):
            continue
        default = flag.get("default_text") or flag.get("default")
        told = "required" if flag.get("required") else "" if default is None else brief(default)
        kind = " | ".join(map(str, flag["choices"])) if flag.get("choices") else flag.get("type") or ""
        rows.append([", ".join(flag.get("options") or [flag["name"]]), kind, told, flag.get("help") or ""])
    columns = [
        Column("parameter"),
        Column("type", wraps=True),
        Column("default", wraps=True),
        Column("meaning", wraps=True),
    ]
    return [Table(columns, rows, 2)] if rows else [Para("no parameters", 2)]


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def reducers(data: Mapping[str, Any]) -> list[Block]:
    """View of ``discover-reducers``."""
    rows: list[list[Content]] = [
        [one["path"], str(one["score"]), first_line(one["docstring"]) or ", ".join(map(str, one["matches"]))]
        for one in data["reducers"]
    ]
    if not rows:
        return [Line("No script looks like a reducer; aggregate has one built in.")]
    return [Table([Column("script"), Column("score", right=True), Column("what it says", wraps=True)], rows)]


def resolved(data: Mapping[str, Any]) -> list[Block]:
    """View of ``resolve-submit-inputs``: each value and where it comes from, the plan."""
    rows: list[list[Content]] = [
        [
            one["field"].rpartition(".")[2].replace("_", " "),
            content(one["field"].rpartition(".")[2], one["value"]),
            one["origin"],
        ]
        for one in data["resolved"]
        if not isinstance(one["value"], Mapping)
        or any(value not in (None, "", [], {}) for value in one["value"].values())
    ]
    title = Title(f"{data['run_id']}: {counted(data['total_tasks'], 'task')}")
    columns = [Column("field"), Column("value", wraps=True), Column("where it comes from", wraps=True)]
    assumed: list[Block] = [Para([Cell("Assumed: ", "warn"), brief(one)]) for one in data.get("assumed") or []]
    return [title, Table(columns, rows), *assumed, Heading("Plan"), Facts(plan_facts(data["plan"]))]


def recall(data: Mapping[str, Any]) -> list[Block]:
    """View of ``recall``: earlier campaigns, and the best points to start at."""
    blocks: list[Block] = [Title(f"{data['showing']} of {counted(data['total_matching'], 'campaign')}")]
    rows: list[list[Content]] = [
        [
            clock(one["materialized_at"]) if one.get("materialized_at") else "",
            one["campaign_dir"],
            one.get("task_kind") or "",
            brief(one.get("task_count")),
            one.get("goal") or "",
        ]
        for one in data["campaigns"]
    ]
    columns = [
        Column("written"),
        Column("folder"),
        Column("kind"),
        Column("tasks", right=True),
        Column("goal", wraps=True),
    ]
    used = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    blocks.append(Table([columns[at] for at in used], [[row[at] for at in used] for row in rows]))
    starts: list[list[Content]] = [
        [one["metric"], brief(one["value"]), pairs(one["params"]), one.get("run_id") or one.get("campaign_id") or ""]
        for one in data["starts"]
    ]
    if starts:
        columns = [Column("metric"), Column("value", right=True), Column("at", wraps=True), Column("of")]
        blocks += [Heading("Where to start"), Table(columns, starts)]
    if data.get("rollup"):
        blocks += [Heading("Over all of them"), *below(data["rollup"], 1)]
    return blocks


def capabilities(data: Mapping[str, Any]) -> list[Block]:
    """View of ``capabilities``: the verbs by stage."""
    blocks: list[Block] = []
    stages = data.get("verbs") or _by_stage(data.get("operations") or [])
    for stage in sorted(stages, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES)):
        blocks += [
            Heading(stage),
            Table([Column(""), Column(""), Column("", wraps=True)], list(map(_verb, stages[stage])), 2),
        ]
    if data.get("marks"):
        blocks += [Gap(), Para(Cell(data["marks"].partition("; :")[0], "dim"))]
    if data.get("error_codes"):
        rows = [{**row, "code": row["error_code"], "exit": row["exit_code"]} for row in data["error_codes"]]
        blocks += [Heading("error codes"), table(rows, ["code", "exit", "meaning"], 2)]
    if data.get("cluster_yaml_keys"):
        blocks += [Heading("keys of clusters.yaml"), table(data["cluster_yaml_keys"], ["key", "description"], 2)]
    if data.get("environment"):
        blocks += [Heading("environment"), Facts(list(data["environment"].items()), 2)]
    facts: list[Fact] = [
        (label(name), brief(data[name]))
        for name in ("version", "schedulers", "schemas_dir", "journal_dir")
        if data.get(name)
    ]
    return [*blocks, Gap(), Facts(facts), *_more(data)]


def _verb(line: str) -> list[Content]:
    """Return a line of ``capabilities`` (name, mark, meaning) as cells; the mark of a verb without effects says nothing."""
    word, _, meaning = line.partition(" ")
    name = word.rstrip("!@+:")
    return [name, Cell(word[len(name) :].strip(":"), "dim"), meaning]


def _by_stage(operations: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in operations:
        found.setdefault(one["stage"], []).append(f"{one['name']} {one.get('brief') or one['summary']}")
    return found


def _more(data: Mapping[str, Any]) -> list[Block]:
    commands = data.get("more") or []
    return (
        [Gap(), *(Line(command, 2) for command in ([commands] if isinstance(commands, str) else commands))]
        if commands
        else []
    )


def describe(data: Mapping[str, Any]) -> list[Block]:
    """View of ``describe``: purpose, example, flags, errors, what follows. Schemas are for programs."""
    entry = data.get("entry") or {}
    blocks: list[Block] = [Title(data["name"]), Para(data.get("summary") or entry.get("summary", ""))]
    if data.get("description"):
        blocks += [Gap(), Para(data["description"])]
    if isinstance(data.get("example"), str) and data["example"]:
        blocks += [Heading("example"), Line(data["example"], 2)]
    flags = data.get("flags") or {flag["flag"]: flag["help"] for flag in entry.get("flags", [])}
    if flags:
        blocks += [Heading("flags"), Facts(list(flags.items()), 2)]
    if data.get("more_flags"):
        blocks += [Gap(), Para([Cell("also: ", "dim"), data["more_flags"]], 2)]
    if data.get("input_schema"):
        blocks += [Heading("JSON Schemas"), Line(f"hpc-agent describe {data['name']} --schema --json", 2)]
    facts: list[Fact] = []
    for name in ("returns", "effects", "errors", "next_verbs", "aliases"):
        value = data.get(name) or entry.get(name)
        if value:
            facts.append((label(name), brief(value)))
    return [*blocks, Gap(), Facts(facts), *_more(data)]


def find(data: Mapping[str, Any]) -> list[Block]:
    """View of ``find``: the verbs that fit, each with a command that works."""
    blocks: list[Block] = []
    for one in data["verbs"]:
        blocks += [*([Gap()] if blocks else []), Para([Cell(one["verb"], "strong"), f": {one['summary']}"])]
        blocks += [Line(one["example"], 2)] if one.get("example") else []
    more: list[Block] = []
    if data.get("unknown_words"):
        more.append(Line(f"No verb has: {', '.join(data['unknown_words'])}"))
    if data.get("others"):
        more.append(Line(f"{counted(data['others'], 'other verb')} with one of the words; --limit shows more"))
    return [*(blocks or [Line("No verb has these words.")]), *([Gap()] if more else []), *more]


def setup_action(data: Mapping[str, Any]) -> list[Block]:
    """View of ``suggest-setup-action``."""
    blocks: list[Block] = [Title([data["action"].replace("_", " "), f": {data['reason']}"])]
    return [*blocks, Facts([("runs", ", ".join(data["candidates"]))])] if data.get("candidates") else blocks
