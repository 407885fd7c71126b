"""Draw time and memory asked against used, the core-hours, and the tasks and waves over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hpc_agent.view.report.charts.distribution import bars_of, mark
from hpc_agent.view.report.markup import Markup
from hpc_agent.view.report.numbers import core_time, duration, number, percent
from hpc_agent.view.report.plot import CHARACTER, WIDTH, Plot, Scale

WAVES_SHOWN = 10
TIMES = (0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000)  # ticks of logarithmic axes, s
SIZES = (0.1, 1, 10, 100, 1024, 10240, 102400, 1048576)  # MiB


def asked_against_used(
    found: dict[str, Any],
    asked: float | None,
    what: str,
    unit: tuple[float, str],
    say: Callable[[float], str],
    noun: str,
) -> Markup:
    """Draw the histogram of what elements used, with the limit. ``unit``: size and name of the axis's unit."""
    size, name = unit
    times = what == "walltime"
    label = f"{what} used: median {say(found['median'])}, 95 % below {say(found['q95'])}"
    label += f", asked {say(asked)}" if asked else ""
    plot = Plot(label, height=230)
    plot.top = 44.0
    low, high, kind = found["min"], max(found["max"], asked or 0.0), found["scale"]
    x = Scale.padded(low / size, high / size, kind) if kind == "log" else Scale(0.0, high / size * 1.04)
    y = Scale(0, max(found["counts"]), "count")
    if kind == "log":  # each tick has the unit that fits it
        x.ticks = [tick / size for tick in (TIMES if times else SIZES) if x.low <= tick / size <= x.high]
        x.labels = [say(tick * size) for tick in x.ticks]
    plot.frame(x, y, what if kind == "log" else f"{what}, {name}", noun)
    shown = {**found, "min": found["min"] / size, "max": found["max"] / size}
    plot.path(bars_of(shown, x, y, plot.bottom), "bars")
    mark(plot, x(found["median"] / size), f"median {say(found['median'])}", "median")
    if asked:
        mark(plot, x(asked / size), f"asked {say(asked)}", "asked", 13.0)
    return plot.svg()


def unit_of_time(seconds: float) -> tuple[float, str]:
    return next(((size, unit) for size, unit in ((3600.0, "h"), (60.0, "min")) if seconds >= 3 * size), (1.0, "s"))


def core_hours(hours: dict[str, float]) -> Markup:
    """Draw the core-hours as one bar: computing, idle, and lost in failed attempts."""
    total = sum(hours.values())
    parts = [("computing", "s0"), ("idle", "s1"), ("failed", "fail")]
    words = {"computing": "computing", "idle": "idle cores", "failed": "failed attempts"}
    label = "Cores: " + ", ".join(f"{words[name]} {core_time(hours[name], total)}" for name, _ in parts)
    plot = Plot(label, WIDTH, 104)
    left, right = 6.0, plot.width - 6.0
    at = left
    for name, kind in parts:
        wide = (right - left) * hours[name] / total
        if wide > 0:
            plot.path(f"M{at:.1f} 10h{max(0.8, wide - 1):.1f}v24h{-max(0.8, wide - 1):.1f}z", f"fill {kind}")
        at += wide
    for row, (name, kind) in enumerate(parts):
        plot.path(f"M{left} {46 + 19 * row}h11v11h-11z", f"fill {kind}")
        plot.text(left + 18, 56 + 19 * row, words[name], "label")
        plot.text(plot.width * 0.66, 56 + 19 * row, core_time(hours[name], total), "label end")
        plot.text(right, 56 + 19 * row, percent(hours[name] / total), "label end")
    return plot.svg()


def time_line(found: dict[str, Any], waves: Sequence[dict[str, Any]], width: int) -> Markup:
    """Draw the running tasks over time, failed ends as marks, and below them a bar for each wave."""
    step, running = found["step"], found["running"]
    end = step * len(running)
    rows = [wave for wave in waves if wave.get("first") is not None][:WAVES_SHOWN]
    gap = 17
    plot = Plot(
        f"Running tasks over {duration(end)}, at most {number(max(running), 3)} at once", width, 230 + gap * len(rows)
    )
    plot.bottom = 180.0
    x, y = Scale(0, end, "time"), Scale(0, math.ceil(max(*running, 1)), "count")
    height, plot.height = plot.height, 220
    plot.frame(x, y, "time since the first start", "tasks that run at once")
    plot.height = height
    data = f"M{x(0):.1f} {plot.bottom:.0f}"
    for at, value in enumerate(running):
        data += f"V{y(value):.1f}H{x(step * (at + 1)):.1f}"
    plot.path(data + f"V{plot.bottom:.0f}z", "area")
    failed = [at for at, ended in enumerate(found["failed"]) if ended]
    plot.path("".join(f"M{x(step * (at + 0.5)):.1f} {plot.bottom - 7:.0f}v7" for at in failed), "failed-mark")
    if failed:
        plot.text(plot.right, 13, "red ticks: a task failed", "label tfail end")
    for at, wave in enumerate(rows):
        top = 238.0 + gap * at
        began, ended = (wave[name] - found["start"] for name in ("first", "last"))
        left, right = x(max(0.0, began)), max(x(ended), x(max(0.0, began)) + 1.5)
        plot.path(f"M{left:.1f} {top - 11:.0f}H{right:.1f}v14H{left:.1f}z", "wave")
        told = f"wave {wave['wave']}: {wave.get('complete', 0):,} of {wave['tasks']:,}"
        beside = right + 6 + CHARACTER * len(told) < plot.width
        inside = not beside and right - left > CHARACTER * len(told) + 8
        place, kind = (right + 5, "tick") if beside else (left + 5, "tick on") if inside else (left - 5, "tick end")
        plot.text(place, top, told, kind)
    return plot.svg()
