"""Views of what went wrong: failures with cause and remedy, logs as text, findings of checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc_agent.view.terminal.blocks import Block, Cell, Fact, Facts, Gap, Line, Para, Raw, Title
from hpc_agent.view.terminal.generic import generic, table
from hpc_agent.view.terminal.words import counted

TAIL_LINES = 12
SEVERITIES = {"error": "bad", "warning": "warn", "info": "dim", "pass": "good", "fail": "bad", "warn": "warn"}


def failures(data: Mapping[str, Any]) -> list[Block]:
    """View of ``failures``: one paragraph for each cause, the most frequent first."""
    if not data["failed"]:
        return [Title([data["run_id"], ": ", Cell("no task has failed", "good")])]
    blocks: list[Block] = [Title([data["run_id"], ": ", Cell(f"{counted(data['failed'], 'task')} failed", "bad")])]
    for cluster in data["clusters"]:
        blocks += _cluster(cluster)
    if data["more_clusters"]:
        blocks += [Gap(), Line(f"{counted(data['more_clusters'], 'more cause')}: hpc-agent failures --json has them")]
    return blocks


def _cluster(cluster: Mapping[str, Any]) -> list[Block]:
    sample = cluster.get("sample") or {}
    where = ", ".join(f"{host} ({count})" for host, count in (cluster.get("hosts") or {}).items())
    facts: list[Fact] = [
        ("tasks", cluster["tasks"]),
        ("cause", f"{cluster['class']} ({cluster['confidence']})"),
    ]
    facts += [
        ("evidence" if not at else "", f"{item['text']} ({item['source']})")
        for at, item in enumerate(cluster["evidence"])
    ]
    if sample.get("frame"):
        facts.append(("at", sample["frame"]))
    if where:
        facts.append(("nodes", where))
    if cluster.get("resubmitted"):
        facts.append(("resubmitted", counted(cluster["resubmitted"], "time")))
    head = Para([Cell(cluster["title"], "bad"), f", {counted(cluster['count'], 'task')}"])
    return [Gap(), head, Facts(facts, 2), *advice(cluster["remedy"], 2)]


def advice(text: str, indent: int = 0) -> list[Block]:
    """Return a remedy: its sentence, and the command that ends it on a line of its own."""
    sentence, found, command = text.partition(": hpc-agent ")
    if not found:
        return [Para([Cell("Remedy: ", "strong"), text], indent)] if text else []
    return [Para([Cell("Remedy: ", "strong"), f"{sentence}:"], indent), Line(f"hpc-agent {command}", indent + 2)]


def logs(data: Mapping[str, Any]) -> list[Block]:
    """View of ``logs``: each log as text, below a line that says whose it is."""
    blocks: list[Block] = []
    shown = data["logs"]
    for entry in shown:
        ended = f", {entry['cause'].replace('_', ' ')}" if entry.get("cause") else ""
        told = f" ({entry['message']})" if entry.get("message") else ""
        style = {"failed": "bad", "complete": "good"}.get(entry.get("state") or "", "strong")
        head: list[str | Cell] = [
            Cell(f"task {entry['task']}", "strong"),
            " ",
            Cell(f"{entry.get('state') or 'unknown'}{ended}{told}", style),
        ]
        blocks += [*([Gap()] if blocks else []), Para([*head, f" on {entry['host']}" if entry.get("host") else ""])]
        if entry.get("missing"):
            had_one = entry.get("state") in ("complete", "failed")  # the folder of logs may have been emptied since
            blocks.append(Para("Its log is not on the cluster any more." if had_one else "There is no log yet.", 2))
        else:
            blocks += [Raw(entry["content"])] if entry["content"] else [Para("The log is empty.", 2)]
        if entry.get("scheduler_output"):
            blocks += [Line(Cell("what the scheduler wrote:", "dim")), Raw(entry["scheduler_output"])]
        if len(entry.get("attempts") or []) > 1:
            rows = [{**attempt, **attempt.get("asked", {})} for attempt in entry["attempts"]]
            blocks.append(table(rows, ["attempt", "cause", "host", "seconds", "mem_mb", "walltime_sec"], 2))
        part = f", from byte {entry['offset']:,} on" if entry.get("offset") else ""  # of a file that tasks share
        if entry.get("path"):
            blocks.append(Line(Cell(f"{entry['path']}{part}" if part else entry["path"], "dim")))
    failed = data.get("failed")
    if failed and failed > len(shown):
        blocks += [Gap(), Line(f"{len(shown)} of {counted(failed, 'failed task')}; --task-id shows any of them")]
    return blocks or [Line("No task has failed: there is no log to show.")]


def story(data: Mapping[str, Any]) -> list[Block]:
    """View of ``run-story``: its text."""
    head, _, timeline = data["text"].partition("\n\n")
    title, *lines = head.split("\n")
    return [Title(title), Facts(labelled(lines, 9)), Gap(), Raw(timeline, hang=21)]


def labelled(lines: list[str], width: int) -> list[Fact]:
    """Return lines whose first ``width`` letters name the rest as facts; a command stays whole."""
    facts = [(line[:width].strip(), line[width:].strip()) for line in lines]
    return [(name, Cell(text, whole=True) if name == "command" else text) for name, text in facts]


def findings(data: Mapping[str, Any]) -> list[Block]:
    """View of the checks: what was found, the worst first."""
    overall = str(data.get("overall", ""))
    title: list[Block] = (
        [
            Title(
                [
                    f"{data['run_id']}: " if data.get("run_id") else "Result: ",
                    Cell(overall, SEVERITIES.get(overall, "")),
                ]
            )
        ]
        if overall
        else []
    )
    blocks: list[Block] = [*title, *finding_blocks(data.get("findings") or [])]
    rest = {name: value for name, value in data.items() if name not in ("overall", "findings", "run_id")}
    return [*blocks, *(generic(rest) if any(rest.values()) else [])]


def finding_blocks(found: list[dict[str, Any]]) -> list[Block]:
    blocks: list[Block] = []
    for finding in found:
        severity = finding.get("severity", "")
        blocks.append(
            Para(
                [
                    Cell(f"{severity}: ", SEVERITIES.get(severity, "")),
                    f"{finding['message']} ",
                    Cell(f"({finding['code']})", "dim"),
                ]
            )
        )
        if finding.get("suggested_fix"):
            blocks += advice(finding["suggested_fix"], 2)
    return blocks


def log_end(text: str) -> Raw:
    """Return the end of a log."""
    return Raw("\n".join(text.rstrip("\n").split("\n")[-TAIL_LINES:]), 2)


def verified(data: Mapping[str, Any]) -> list[Block]:
    """View of ``verify-aggregation-complete``: each promise with its answer."""
    promises = {
        "all_tasks_present": "every task is in the table",
        "all_waves_combined": "every wave is combined",
        "provenance_present": "the table says where it comes from",
        "no_contamination": "nothing of other runs is in it",
    }
    facts: list[Fact] = [
        (text, Cell("yes", "good") if data[name] else Cell("no", "bad"))
        for name, text in promises.items()
        if name in data
    ]
    rest = {name: value for name, value in data.items() if name not in (*promises, "ok", "run_id")}
    word = Cell("complete", "good") if data["ok"] else Cell("not complete", "bad")
    return [Title([data["run_id"], ": the aggregation is ", word]), Facts(facts), *generic(rest)]
