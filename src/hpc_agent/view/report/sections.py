"""The other parts of the page: headline, what is missing, time, resources, failures, provenance, a campaign's history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hpc_agent.view.report import results
from hpc_agent.view.report.charts import history
from hpc_agent.view.report.charts import resources as drawn
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, figure, joined, tag
from hpc_agent.view.report.numbers import (
    NBSP,
    PLUS_MINUS,
    core_time,
    count,
    duration,
    fence,
    mebibytes,
    number,
    percent,
)  # fmt: skip
from hpc_agent.view.report.plot import WIDE, Plot, on_both_screens

# The states of tasks and trials, in the order of the bar, with the word of the headline.
STATES = {"complete": "complete", "stopped": "ended early", "running": "running", "failed": "failed", "unknown": "unknown",
          "open": "not ended yet", "pending": "pending"}  # fmt: skip
PACKAGES_OPEN = 30
RANGES_SHOWN = 200
LONG = 600  # characters of a fact; a longer one is folded


def header(data: ReportData) -> Markup:
    """Return title, headline, the bar of states, and the numbers that a reader looks for first."""
    return joined([
        tag("h1", {}, data.title),
        tag("p", {"class": "about"}, data.about),
        tag("p", {"class": "headline"}, headline(data).replace(" = ", f"{NBSP}={NBSP}")),
        _exactly(data),
        _states(data),
        None if data.gaps else tag("p", {"class": "about"}, f"Nothing is missing: every {data.noun} is in the table."),
        tag("dl", {"class": "tiles"}, joined(_tile(*tile) for tile in _tiles(data))),
    ])  # fmt: skip


def headline(data: ReportData) -> str:
    """Return one or two sentences: how much is done, and what the best row is."""
    done, values = _done(data), _values(data)
    if not values:
        return f"{done}."
    if not data.direction:
        return f"{done}. {data.main} lies between {number(min(values))} and {number(max(values))}."
    best = results.words_of(data, results.ranked(data)[0])
    if len(set(values)) == 1 < len(values):
        return f"{done}. {data.main} is {number(values[0])} in every row."
    word = "" if len(values) == 1 else "Lowest " if data.direction == "min" else "Highest "
    told = f"{done}. {word}{data.main}: {number(values[0])}{f' at {best}' if best else ''}."
    if data.campaign and data.campaign.front:
        told += f" {count(len(data.campaign.front), 'trial')} on the Pareto front."
    return told


def _done(data: ReportData) -> str:
    complete, early = data.counts.get("complete", 0), data.stopped_early
    if not data.total:
        return f"No {data.noun} has been asked yet"
    told = [f"{early:,} of them ended early"] if early else []
    told += [f"{data.counts[name]:,} {STATES[name]}" for name in list(STATES)[1:] if data.counts.get(name)]
    done = f"{complete:,} of {count(data.total, data.noun)} {'is' if 1 in (complete, data.total) else 'are'} complete"
    if complete == data.total:
        done = f"All {count(data.total, data.noun)} are complete" if complete > 1 else f"The {data.noun} is complete"
    return ", ".join([done, *told])


def _values(data: ReportData) -> list[float]:
    """Return the means of the main metric, the best first where the direction is known."""
    return [row[results.metric_at(data, data.main)][0] for row in results.ranked(data)]


def _exactly(data: ReportData) -> Markup | None:
    """Return the parameters of the best row with all their digits, where the headline has rounded them."""
    rows = results.ranked(data)
    if not (data.direction and rows) or results.words_of(data, rows[0], 0) == results.words_of(data, rows[0]):
        return None
    return tag("p", {"class": "about"}, f"Exactly: {results.words_of(data, rows[0], 0)}.")


def _tiles(data: ReportData) -> list[tuple[str, str, str]]:
    tiles = [(f"{data.noun}s complete", f"{data.counts.get('complete', 0):,}", f"of {data.total:,}")]
    if data.direction and (values := _values(data)):
        _, std, size = results.ranked(data)[0][results.metric_at(data, data.main)]
        more = f"{PLUS_MINUS} {number(std, 2)}, {count(size, data.noun)}" if std is not None else ""
        tiles.insert(0, (f"{'lowest' if data.direction == 'min' else 'highest'} {data.main}", number(values[0]), more))
    if data.campaign:
        tiles.append(("iterations", f"{data.campaign.iterations:,}", ""))
        tiles.append(("cores held", core_time(data.campaign.core_hours), "by ended trials"))
    if data.counts.get("failed"):
        classes = list(dict.fromkeys(group["title"] for group in data.groups))
        tiles.append(
            ("failed", f"{data.counts['failed']:,}", ", ".join(classes[:2]) + (" ..." if len(classes) > 2 else ""))
        )
    if data.time_line:
        span = data.time_line["step"] * len(data.time_line["running"])
        tiles.append(("from first start to last end", duration(span), ""))
    if data.usage:
        hours = data.usage["core_hours"]
        if total := sum(hours.values()):
            tiles.append(("cores held", core_time(total), f"{percent(hours['computing'] / total)} computing"))
        if gpu := data.usage["gpu_hours"]:
            tiles.append(("GPU-hours", number(gpu, 3), ""))
    return tiles


def _tile(name: str, value: str, more: str) -> Markup:
    return tag(
        "div",
        {},
        tag("dt", {}, name),
        tag("dd", {}, value.replace(NBSP, " "), tag("small", {}, more) if more else None),
    )


def _states(data: ReportData) -> Markup:
    told = ", ".join(f"{data.counts[name]:,} {word}" for name, word in STATES.items() if data.counts.get(name))
    plot = Plot(f"{data.noun}s: {told}", 800, 14)
    at = 0.0
    for name in STATES:
        wide = 800 * data.counts.get(name, 0) / max(1, data.total)
        plot.path(f"M{at:.1f} 0h{max(1.0, wide - 1):.1f}v12h{-max(1.0, wide - 1):.1f}z" if wide else "", f"fill {name}")
        at += wide
    return plot.svg()


def missing(data: ReportData) -> Markup:
    items = [
        tag("li", {}, gap.what + (f": {shortened(gap.tasks)}" if gap.tasks else "") + ". ",
            tag("code", {}, gap.command) if gap.command else None)
        for gap in data.gaps
    ]  # fmt: skip
    return tag("ul", {"class": "gaps"}, joined(items))


def shortened(ranges: str) -> str:
    """Return ranges of tasks, cut with a word after about 200 characters."""
    is_whole = len(ranges) <= RANGES_SHOWN and not ranges.endswith("...")
    cut = ranges if is_whole else ranges[:RANGES_SHOWN].rpartition(",")[0]
    return cut.replace(",", ", ") + ("" if is_whole else " and more")


def time_line(data: ReportData, left_out: list[str]) -> Markup:
    found = data.time_line or {}
    started = [wave for wave in data.waves if wave.get("first") is not None]
    if len(started) > drawn.WAVES_SHOWN:
        left_out.append(f"the bars of {len(started) - drawn.WAVES_SHOWN:,} of {len(started):,} waves")
    picture = on_both_screens(*(drawn.time_line(found, started, width) for width in (400, WIDE)))
    waited = [w["first"] - w["submitted"] for w in started if w.get("submitted") and w["first"] >= w["submitted"]]
    said = "Attempts that have ended, by their records."
    if waited:
        said += f" From the submission of a wave to its first start: {duration(min(waited))}"
        said += (
            f" to {duration(max(waited))}."
            if len(waited) > 1 and duration(min(waited)) != duration(max(waited))
            else "."
        )
    return tag("figure", {}, picture, tag("figcaption", {}, said))


def resources(data: ReportData) -> Markup:
    usage = data.usage or {}
    asked, figures = usage["asked"], []
    who = "element (several tasks in turn)" if usage["pack"] > 1 else "task"
    nouns = "number of elements" if usage["pack"] > 1 else "number of tasks"
    if found := usage["seconds"]:
        limit = asked.get("walltime_sec", [None, None])[1]
        unit = drawn.unit_of_time(max(found["max"], limit or 0.0))
        chart = drawn.asked_against_used(found, limit, "walltime", unit, duration, nouns)
        figures.append(figure("Walltime", chart, _advice(found, limit, duration, who, asked.get("walltime_sec"))))
    if found := usage["memory_mb"]:
        limit = asked.get("mem_mb", [None, None])[1]
        unit = (1024.0, "GiB") if max(found["max"], limit or 0.0) >= 4096 else (1.0, "MiB")
        chart = drawn.asked_against_used(found, limit, "memory", unit, mebibytes, nouns)
        said = _advice(found, limit, mebibytes, who, asked.get("mem_mb")) + " Of the largest process."
        figures.append(figure("Memory", chart, said))
    if sum(usage["core_hours"].values()):
        figures.append(figure("Cores", drawn.core_hours(usage["core_hours"]), _waste(usage)))
    if not figures:
        return tag("p", {}, "No task has left measurements yet.")
    return tag("div", {"class": "charts"}, joined(figures))


def _advice(found: dict[str, Any], asked: float | None, say: Any, who: str, limits: Any) -> str:
    said = f"Each {who}: the largest used {say(found['max'])}"
    if not asked:
        return f"{said}; what was asked for is not recorded."
    varied = f" ({say(limits[0])} to {say(limits[1])} in different arrays)" if limits[0] != limits[1] else ""
    return f"{said} of {say(asked)}{varied}, {percent(found['max'] / asked)}."


def _waste(usage: dict[str, Any]) -> str:
    hours = usage["core_hours"]
    wasted, total = hours["idle"] + hours["failed"], sum(hours.values())
    cpus = usage["asked"].get("cpus", [1, 1])
    cores = count(cpus[0], "core") if cpus[0] == cpus[1] else f"{cpus[0]} to {cpus[1]} cores"
    said = f"Wasted: {core_time(wasted, total)} of {core_time(total)}. Idle: cores that were held ({cores} a task) and did "
    said += "not compute. Failed attempts count whole."
    if usage["unmeasured"]:
        said += f" Not in it: {count(usage['unmeasured'], 'attempt')} without a measurement."
    return said


def failures(data: ReportData) -> Markup:
    return joined(_cause(group) for group in data.groups)


def _cause(group: dict[str, Any]) -> Markup:
    sample = group["sample"]
    evidence = "; ".join(f"{one['source']}: {one['text']}" for one in group.get("evidence") or [])
    facts = [("Tasks", shortened(group["tasks"])), ("Evidence", evidence), ("Confidence", group.get("confidence")),
             ("Nodes", ", ".join(f"{host} ({tasks})" for host, tasks in group.get("hosts", {}).items())),
             ("Sample", f"task {sample['task']}" + (f": {sample['message']}" if sample.get("message") else "")),
             ("Line", sample.get("line")), ("Where", sample.get("frame")), ("Remedy", group.get("remedy"))]  # fmt: skip
    kind = f" ({sample['exception']})" if sample.get("exception") else ""
    log = sample.get("log_tail") or ""
    shown = tag("details", {"open": True}, tag("summary", {}, f"The last lines of task {sample['task']}"),
                tag("pre", {"tabindex": 0, "role": "region", "aria-label": f"Log of task {sample['task']}"}, log))  # fmt: skip
    return tag(
        "div", {"class": "cause"},
        tag("h3", {}, f"{group['title']}{kind}: {count(group['count'], 'task')}"),
        _facts([(name, str(value)) for name, value in facts if value]),
        shown if log.strip() else tag("p", {"class": "note"}, "The task left no log."),
    )  # fmt: skip


def _facts(facts: Sequence[tuple[str, str]]) -> Markup:
    return tag(
        "dl", {"class": "facts"}, joined(joined([tag("dt", {}, name), tag("dd", {}, value)]) for name, value in facts)
    )


def provenance(data: ReportData) -> Markup:
    parts = []
    for section in data.provenance:
        short = [fact for fact in section.facts if len(fact[1]) <= LONG]
        folded = [_folded(name, text) for name, text in section.facts if len(text) > LONG]
        parts.append(joined([tag("h3", {}, section.title), _facts(short) if short else None, *folded]))
    return joined(parts)


def _folded(name: str, text: str) -> Markup:
    return tag("details", {}, tag("summary", {}, name), tag("p", {"class": "note"}, text))


def campaign(data: ReportData) -> Markup:
    told = data.campaign
    assert told is not None
    figures = []
    if (told.trials or told.early) and data.main:
        picture = on_both_screens(*(history.history(told, data.main, width) for width in (400, WIDE)))
        said = "Each dot is a trial that is complete; the line is the best so far."
        said += (
            f" Grey dots: {count(len(told.early), 'trial')} that ended early, with the last value."
            if told.early
            else ""
        )
        said += f" Shaded: {count(told.earlier, 'trial')} of earlier campaigns." if told.earlier else ""
        low, high = fence([value for _, value in told.trials or told.early], 3.0)
        far = sum(not low <= value <= high for _, value in told.trials)
        said += f" {count(far, 'dot')} on the edge: the value lies beyond it." if far else ""
        said += f" Crosses at the foot: {count(len(told.failed), 'failed trial')}." if told.failed else ""
        figures.append(tag("figure", {}, picture, tag("figcaption", {}, said)))
    if told.both:
        said = "Line: the trials that no other trial beats in both."
        figures.append(figure("Objectives", history.pareto(told.both, told.front, told.objectives), said))
    if told.budget:
        rows = [(name, f"{number(used)} of {number(limit)}") for name, used, limit in told.budget]
        figures.append(joined([tag("h3", {}, "Budget"), _facts(rows)]))
    return joined(figures) if figures else tag("p", {}, "No trial has ended yet.")


def flattened(document: Any, name: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, text) of each value in a JSON document; many values of one object, such as packages, are one text."""
    if isinstance(document, dict) and len(document) > PACKAGES_OPEN and not any(map(_is_nested, document.values())):
        return [(name, ", ".join(f"{key} {value}" for key, value in document.items()))]
    if isinstance(document, dict):
        return [
            fact for key, value in document.items() for fact in flattened(value, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(document, list) and not any(map(_is_nested, document)):
        return [(name, ", ".join(map(str, document)) or "none")]
    return [(name, document if isinstance(document, str) else json.dumps(document))]


def _is_nested(value: Any) -> bool:
    return isinstance(value, (dict, list))
