"""Draw time and memory asked against used, the core-hours, and the tasks and waves over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hpc_agent.view.report.charts.distribution import bars
from hpc_agent.view.report.markup import Markup
from hpc_agent.view.report.numbers import core_time, duration, mebibytes, number, percent
from hpc_agent.view.report.plot import CHARACTER, WIDTH, Plot, Scale

WAVES_SHOWN, WAVE_HEIGHT = 10, 17


class Measure(NamedTuple):
    """What elements used: the fields of the survey with its histogram and its limit, and how to write it."""

    title: str
    field: str
    limit: str
    say: Callable[[float], str]
    units: Sequence[tuple[float, float, str]]  # the largest value from which on it is the axis's unit, size, name
    ticks: Sequence[float]  # of logarithmic axes
    note: str = ""


MEASURES = (
    Measure("Walltime", "seconds", "walltime_sec", duration, ((10800, 3600, "h"), (180, 60, "min"), (0, 1, "s")),
            (0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000)),
    Measure("Memory", "memory_mb", "mem_mb", mebibytes, ((4096, 1024, "GiB"), (0, 1, "MiB")),
            (0.1, 1, 10, 100, 1024, 10240, 102400, 1048576), " Of the largest process."),
)  # fmt: skip


def asked_against_used(found: dict[str, Any], asked: float | None, measure: Measure, noun: str) -> Markup:
    """Draw the histogram of what elements used, with the limit."""
    what, say = measure.title.lower(), measure.say
    label = f"{what} used: median {say(found['median'])}, 95 % below {say(found['q95'])}"
    low, high, kind = found["min"], max(found["max"], asked or 0.0), found["scale"]
    size, unit = next((size, unit) for least, size, unit in measure.units if high >= least)
    marks = [(found["median"] / size, f"median {say(found['median'])}", "median")]
    if asked:
        label += f", asked {say(asked)}"
        marks.append((asked / size, f"asked {say(asked)}", "asked"))
    x, title = Scale(0.0, high / size * 1.04), f"{what}, {unit}"
    if kind == "log":  # each tick has the unit that fits it
        x, title = Scale.padded(low / size, high / size, kind), what
        x.ticks = [tick / size for tick in measure.ticks if x.low <= tick / size <= x.high]
        x.labels = [say(tick * size) for tick in x.ticks]
    return bars(label, {**found, "min": low / size, "max": found["max"] / size}, x, (title, noun), marks)


def core_hours(hours: dict[str, float]) -> Markup:
    """Draw the core-hours as one bar: computing, idle, and lost in failed attempts."""
    total = sum(hours.values())
    parts = [("computing", hours["computing"], "s0"), ("idle cores", hours["idle"], "s1"),
             ("failed attempts", hours["failed"], "fail")]  # fmt: skip
    plot = Plot("Cores: " + ", ".join(f"{name} {core_time(part, total)}" for name, part, _ in parts), WIDTH, 104)
    left, right = 6.0, plot.width - 6.0
    at = left
    for row, (name, part, kind) in enumerate(parts):
        wide, y = (right - left) * part / total, 56 + 19 * row
        if wide > 0:
            plot.path(f"M{at:.1f} 10h{max(0.8, wide - 1):.1f}v24h{-max(0.8, wide - 1):.1f}z", f"fill {kind}")
        at += wide
        plot.path(f"M{left} {y - 10}h11v11h-11z", f"fill {kind}")
        plot.text(left + 18, y, name, "label")
        plot.text(plot.width * 0.66, y, core_time(part, total), "label end")
        plot.text(right, y, percent(part / total), "label end")
    return plot.svg()


def time_line(found: dict[str, Any], waves: Sequence[dict[str, Any]], width: int) -> Markup:
    """Draw the running tasks over time, failed ends as marks, and below them a bar for each wave."""
    step, running = found["step"], found["running"]
    end = step * len(running)
    rows = [wave for wave in waves if wave.get("first") is not None][:WAVES_SHOWN]
    label = f"Running tasks over {duration(end)}, at most {number(max(running), 3)} at once"
    plot = Plot(label, width, 220)
    x, y = Scale(0, end, "time"), Scale(0, math.ceil(max(*running, 1)), "count")
    plot.frame(x, y, "time since the first start", "tasks that run at once")
    plot.height = 230 + WAVE_HEIGHT * len(rows)
    data = f"M{x(0):.1f} {plot.bottom:.0f}"
    for at, value in enumerate(running):
        data += f"V{y(value):.1f}H{x(step * (at + 1)):.1f}"
    plot.path(data + f"V{plot.bottom:.0f}z", "area")
    failed = [at for at, ended in enumerate(found["failed"]) if ended]
    plot.path("".join(f"M{x(step * (at + 0.5)):.1f} {plot.bottom - 7:.0f}v7" for at in failed), "failed-mark")
    if failed:
        plot.text(plot.right, 13, "red ticks: a task failed", "label tfail end")
    for at, wave in enumerate(rows):
        top = 238.0 + WAVE_HEIGHT * at
        began, ended = (wave[name] - found["start"] for name in ("first", "last"))
        left, right = x(max(0.0, began)), max(x(ended), x(max(0.0, began)) + 1.5)
        plot.path(f"M{left:.1f} {top - 11:.0f}H{right:.1f}v14H{left:.1f}z", "wave")
        told = f"wave {wave['wave']}: {wave.get('complete', 0):,} of {wave['tasks']:,}"
        beside = right + 6 + CHARACTER * len(told) < plot.width
        inside = not beside and right - left > CHARACTER * len(told) + 8
        place, kind = (right + 5, "tick") if beside else (left + 5, "tick on") if inside else (left - 5, "tick end")
        plot.text(place, top, told, kind)
    return plot.svg()
