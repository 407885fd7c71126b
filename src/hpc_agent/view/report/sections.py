"""The other parts of the page: headline, what is missing, time, resources, failures, provenance, a campaign's history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from hpc_agent.view.report import results
from hpc_agent.view.report.charts import history
from hpc_agent.view.report.charts import resources as drawn
from hpc_agent.view.report.data import Campaign, Gap, ReportData, Section
from hpc_agent.view.report.markup import Markup, figure, joined, note, tag
from hpc_agent.view.report.numbers import NBSP, PLUS_MINUS, core_time, duration, fence, number, percent
from hpc_agent.view.report.plot import Plot, on_both_screens
from hpc_agent.view.terminal.words import counted

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
    rows, done = results.ranked(data), _done(data)
    if not rows:
        return f"{done}."
    values = [row[results.metric_at(data, data.main)][0] for row in rows]
    if not data.direction:
        return f"{done}. {data.main} lies between {number(min(values))} and {number(max(values))}."
    if len(set(values)) == 1 < len(values):
        return f"{done}. {data.main} is {number(values[0])} in every row."
    best = results.words_of(data, rows[0])
    word = "" if len(values) == 1 else f"{_extreme(data)} ".capitalize()
    told = f"{done}. {word}{data.main}: {number(values[0])}{f' at {best}' if best else ''}."
    if data.campaign and data.campaign.front:
        told += f" {counted(len(data.campaign.front), 'trial')} on the Pareto front."
    return told


def _extreme(data: ReportData) -> str:
    return "lowest" if data.direction == "min" else "highest"


def _done(data: ReportData) -> str:
    complete, early = data.counts.get("complete", 0), data.stopped_early
    if not data.total:
        return f"No {data.noun} has been asked yet"
    told = [f"{early:,} of them ended early"] if early else []
    told += [f"{data.counts[name]:,} {STATES[name]}" for name in list(STATES)[1:] if data.counts.get(name)]
    done = f"{complete:,} of {counted(data.total, data.noun)} {'is' if 1 in (complete, data.total) else 'are'} complete"
    if complete == data.total:
        done = f"All {counted(data.total, data.noun)} are complete" if complete > 1 else f"The {data.noun} is complete"
    return ", ".join([done, *told])


def _exactly(data: ReportData) -> Markup | None:
    """Return the parameters of the best row with all their digits, where the headline has rounded them."""
    rows = results.ranked(data)
    if not (data.direction and rows) or results.words_of(data, rows[0], 0) == results.words_of(data, rows[0]):
        return None
    return tag("p", {"class": "about"}, f"Exactly: {results.words_of(data, rows[0], 0)}.")


def _tiles(data: ReportData) -> Iterator[tuple[str, str, str]]:
    """Yield name, value, and what else there is to say, of the numbers below the headline."""
    if data.direction and (rows := results.ranked(data)):
        mean, std, size = rows[0][results.metric_at(data, data.main)]
        more = f"{PLUS_MINUS} {number(std, 2)}, {counted(size, data.noun)}" if std is not None else ""
        yield f"{_extreme(data)} {data.main}", number(mean), more
    yield f"{data.noun}s complete", f"{data.counts.get('complete', 0):,}", f"of {data.total:,}"
    if data.campaign:
        yield "iterations", f"{data.campaign.iterations:,}", ""
        yield "cores held", core_time(data.campaign.core_hours), "by ended trials"
    if failed := data.counts.get("failed"):
        classes = list(dict.fromkeys(group["title"] for group in data.groups))
        yield "failed", f"{failed:,}", ", ".join(classes[:2]) + (" ..." if len(classes) > 2 else "")
    if data.time_line:
        yield "from first start to last end", duration(data.time_line["step"] * len(data.time_line["running"])), ""
    if data.usage:
        hours = data.usage["core_hours"]
        if total := sum(hours.values()):
            yield "cores held", core_time(total), f"{percent(hours['computing'] / total)} computing"
        if gpu := data.usage["gpu_hours"]:
            yield "GPU-hours", number(gpu, 3), ""


def _tile(name: str, value: str, more: str) -> Markup:
    shown = tag("dd", {}, value.replace(NBSP, " "), tag("small", {}, more) if more else None)
    return tag("div", {}, tag("dt", {}, name), shown)


def _states(data: ReportData) -> Markup:
    told = ", ".join(f"{data.counts[name]:,} {word}" for name, word in STATES.items() if data.counts.get(name))
    plot = Plot(f"{data.noun}s: {told}", 800, 14)
    at = 0.0
    for name in STATES:
        wide = 800 * data.counts.get(name, 0) / max(1, data.total)
        plot.path(f"M{at:.1f} 0h{max(1.0, wide - 1):.1f}v12h{-max(1.0, wide - 1):.1f}z" if wide else "", f"fill {name}")
        at += wide
    return plot.svg()


def missing(gaps: Sequence[Gap]) -> Markup:
    items = [
        tag("li", {}, gap.what + (f": {shortened(gap.tasks)}" if gap.tasks else "") + ". ",
            tag("code", {}, gap.command) if gap.command else None)
        for gap in gaps
    ]  # fmt: skip
    return tag("ul", {"class": "gaps"}, joined(items))


def shortened(ranges: str) -> str:
    """Return ranges of tasks, cut with a word after about 200 characters."""
    is_whole = len(ranges) <= RANGES_SHOWN and not ranges.endswith("...")
    cut = ranges if is_whole else ranges[:RANGES_SHOWN].rpartition(",")[0]
    return cut.replace(",", ", ") + ("" if is_whole else " and more")


def time_line(data: ReportData, left_out: list[str]) -> Markup | None:
    found, started = data.time_line, [wave for wave in data.waves if wave.get("first") is not None]
    if found is None:
        return None
    if len(started) > drawn.WAVES_SHOWN:
        left_out.append(f"the bars of {len(started) - drawn.WAVES_SHOWN:,} of {len(started):,} waves")
    said = "Attempts that have ended, by their records."
    if waited := [w["first"] - w["submitted"] for w in started if w.get("submitted") and w["first"] >= w["submitted"]]:
        times = dict.fromkeys((duration(min(waited)), duration(max(waited))))
        said += f" From the submission of a wave to its first start: {' to '.join(times)}."
    return _figure(on_both_screens(lambda width: drawn.time_line(found, started, width)), said)


def _figure(picture: Markup, said: str) -> Markup:
    return tag("figure", {}, picture, tag("figcaption", {}, said))


def resources(usage: dict[str, Any]) -> Markup:
    each, noun = "task", "number of tasks"
    if usage["pack"] > 1:
        at_once = usage.get("at_once", 1)
        how = f"{at_once} at once; memory and cores are those of one task" if at_once > 1 else "in turn"
        each, noun = f"element (several tasks {how})", "number of elements"
    figures = []
    for measure in drawn.MEASURES:
        if found := usage[measure.field]:
            least, most = usage["asked"].get(measure.limit, (None, None))
            said = _advice(found, least, most, measure.say, each) + measure.note
            figures.append(figure(measure.title, drawn.asked_against_used(found, most, measure, noun), said))
    if sum(usage["core_hours"].values()):
        figures.append(figure("Cores", drawn.core_hours(usage["core_hours"]), _waste(usage)))
    if not figures:
        return tag("p", {}, "No task has left measurements yet.")
    return tag("div", {"class": "charts"}, joined(figures))


def _advice(found: dict[str, Any], least: Any, most: Any, say: Callable[[float], str], each: str) -> str:
    said = f"Each {each}: the largest used {say(found['max'])}"
    if not most:
        return f"{said}; what was asked for is not recorded."
    varied = f" ({say(least)} to {say(most)} in different arrays)" if least != most else ""
    return f"{said} of {say(most)}{varied}, {percent(found['max'] / most)}."


def _waste(usage: dict[str, Any]) -> str:
    hours = usage["core_hours"]
    wasted, total = hours["idle"] + hours["failed"], sum(hours.values())
    cpus = usage["asked"].get("cpus", [1, 1])
    cores = counted(cpus[0], "core") if cpus[0] == cpus[1] else f"{cpus[0]} to {cpus[1]} cores"
    said = f"Wasted: {core_time(wasted, total)} of {core_time(total)}. Idle: cores that were held ({cores} a task) and did "
    said += "not compute. Failed attempts count whole."
    if usage["unmeasured"]:
        said += f" Not in it: {counted(usage['unmeasured'], 'attempt')} without a measurement."
    return said


def failure(group: dict[str, Any]) -> Markup:
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
        tag("h3", {}, f"{group['title']}{kind}: {counted(group['count'], 'task')}"),
        _facts((name, str(value)) for name, value in facts if value),
        shown if log.strip() else note("The task left no log."),
    )  # fmt: skip


def _facts(facts: Iterable[tuple[str, str]]) -> Markup:
    named = (tag(name, {}, text) for fact in facts for name, text in zip(("dt", "dd"), fact, strict=True))
    return tag("dl", {"class": "facts"}, joined(named))


def provenance(section: Section) -> Markup:
    short = [fact for fact in section.facts if len(fact[1]) <= LONG]
    folded = [
        tag("details", {}, tag("summary", {}, name), note(text)) for name, text in section.facts if len(text) > LONG
    ]
    return joined([tag("h3", {}, section.title), _facts(short) if short else None, *folded])


def campaign(told: Campaign, metric: str | None) -> Markup:
    figures = []
    if (told.trials or told.early) and metric:
        said = ["Each dot is a trial that is complete; the line is the best so far."]
        if told.early:
            said.append(f"Grey dots: {counted(len(told.early), 'trial')} that ended early, with the last value.")
        if told.earlier:
            said.append(f"Shaded: {counted(told.earlier, 'trial')} of earlier campaigns.")
        low, high = fence([value for _, value in told.trials or told.early], 3.0)
        if far := sum(not low <= value <= high for _, value in told.trials):
            said.append(f"{counted(far, 'dot')} on the edge: the value lies beyond it.")
        if told.failed:
            said.append(f"Crosses at the foot: {counted(len(told.failed), 'failed trial')}.")
        figures.append(_figure(on_both_screens(lambda width: history.history(told, metric, width)), " ".join(said)))
    if told.both:
        words = "Line: the trials that no other trial beats in both."
        figures.append(figure("Objectives", history.pareto(told.both, told.front, told.objectives), words))
    if told.budget:
        facts = _facts((name, f"{number(used)} of {number(limit)}") for name, used, limit in told.budget)
        figures += [tag("h3", {}, "Budget"), facts]
    return joined(figures) if figures else tag("p", {}, "No trial has ended yet.")


def flattened(document: Any, name: str = "") -> list[tuple[str, str]]:
    """Return (dotted name, text) of each value in a JSON document; many values of one object, such as packages, are one text."""
    if isinstance(document, dict) and len(document) > PACKAGES_OPEN and not any(map(_is_nested, document.values())):
        return [(name, ", ".join(f"{key} {value}" for key, value in document.items()))]
    if isinstance(document, dict):
        named = ((f"{name}.{key}" if name else str(key), value) for key, value in document.items())
        return [fact for key, value in named for fact in flattened(value, key)]
    if isinstance(document, list) and not any(map(_is_nested, document)):
        return [(name, ", ".join(map(str, document)) or "none")]
    return [(name, document if isinstance(document, str) else json.dumps(document))]


def _is_nested(value: Any) -> bool:
    return isinstance(value, (dict, list))
