"""Draw the frame of a chart: scales, axes, titles, and marks of one element for many points."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hpc_agent.node.shared.binning import share_of
from hpc_agent.view.report.markup import Markup, joined, tag
from hpc_agent.view.report.numbers import cell, log_ticks, number, tick_label, ticks, time_ticks

WIDTH, HEIGHT, WIDE = 400, 250, 1148
CHARACTER = 6.9  # width of a digit at 12 px

Pixels = tuple[float, float]


class Scale:
    """A scale from values to pixels: linear, log, time (seconds from 0), or count. Categories are the numbers 0, 1, ..."""

    def __init__(self, low: float, high: float, kind: str = "linear") -> None:
        self.kind = "linear" if kind == "log" and low <= 0 else kind
        self.low, self.high = low, high
        self.pixels: Pixels = (0.0, 1.0)
        self.ticks: list[float] = []
        self.labels: list[str] = []
        self.unit = ""
        if self.kind == "log":
            self.ticks = log_ticks(low, high)
            self.labels = [number(tick, 3) for tick in self.ticks]
        elif self.kind == "time":
            self.ticks, size, self.unit = time_ticks(high)
            self.labels = [number(tick / size, 3) for tick in self.ticks]
        else:
            self.ticks = [tick for tick in ticks(low, high) if kind != "count" or tick == int(tick)]
            self.labels = [tick_label(tick, self.ticks) for tick in self.ticks]

    def __call__(self, value: float) -> float:
        """Return the pixel of a value, within the frame."""
        start, stop = self.pixels
        share = share_of(max(value, self.low) if self.kind == "log" else value, self.low, self.high, self.kind)
        return start + (stop - start) * max(-0.02, min(1.02, share))

    @classmethod
    def padded(cls, low: float, high: float, kind: str = "linear") -> Scale:
        """Return a scale with room around the values."""
        if kind == "log" and low > 0:
            factor = math.exp(0.05 * (math.log(high) - math.log(low))) if high > low else 2.0
            return cls(max(low / factor, 5e-324), min(high * factor, sys.float_info.max), kind)
        room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        room = room if math.isfinite(room) else 0.0
        return cls(low - room, high + room)


def axis_scale(axis: dict[str, Any]) -> Scale:
    """Return the scale of a parameter's axis; its few values are the ticks."""
    values = axis.get("values") or axis["edges"]
    if axis["kind"] == "text":
        return Scale(-0.5, len(values) - 0.5)
    scale = Scale.padded(values[0], values[-1], axis["scale"])
    if "values" in axis and len(values) <= 7:
        labels = [cell(value) for value in values]
        if max(map(len, labels)) * len(labels) < 44:
            scale.ticks, scale.labels = list(values), labels
    return scale


def centres(axis: dict[str, Any]) -> list[float]:
    """Return the place of each bin on the axis."""
    if axis["kind"] == "text":
        return [float(at) for at in range(len(axis["values"]))]
    if "values" in axis:
        return list(axis["values"])
    pairs = itertools.pairwise(axis["edges"])
    return [math.sqrt(a) * math.sqrt(b) if axis["scale"] == "log" else a / 2 + b / 2 for a, b in pairs]


class Plot:
    """An SVG picture with a frame. The title of the y axis stands above it, where it can be read."""

    def __init__(self, label: str, width: int = WIDTH, height: int = HEIGHT, right: float = 14) -> None:
        self.label, self.width, self.height = label, width, height
        self.left, self.top, self.right, self.bottom = 50.0, 26.0, width - right, height - 40.0
        self.parts: list[Markup] = []

    def frame(self, x: Scale, y: Scale, x_title: str, y_title: str) -> None:
        """Place both scales, and draw grid, ticks and titles."""
        self.left = 12 + CHARACTER * max([len(text) for text in y.labels] or [1])
        x.pixels, y.pixels = (self.left, self.right), (self.bottom, self.top)
        if x.unit:  # of a time
            x_title = f"{x_title}, {x.unit}"
        grid = "".join(f"M{self.left:.0f} {y(tick):.1f}H{self.right:.0f}" for tick in y.ticks)
        self.path(grid, "grid")
        self.path(f"M{self.left:.0f} {self.bottom:.1f}H{self.right:.0f}", "axis")
        for tick, text in zip(y.ticks, y.labels, strict=True):
            self.text(self.left - 5, y(tick) + 4, text, "tick end")
        self.label_ticks(x)
        self.titles(x_title, y_title)

    def label_ticks(self, x: Scale) -> None:
        """Write the ticks of the x axis, but none that would cover another or be outside of the page."""
        edge = -20.0
        for tick, text in zip(x.ticks, x.labels, strict=True):
            half = CHARACTER * len(text) / 2
            if x(tick) - half > edge + 4 and x(tick) + half < self.width + 2:
                edge = x(tick) + half
                self.text(x(tick), self.bottom + 16, text, "tick mid")

    def grid_across(self, x: Scale, top: float) -> None:
        """Draw a vertical line at each tick of an x axis without a frame, and its labels."""
        self.path("".join(f"M{x(tick):.1f} {top:.0f}V{self.bottom:.0f}" for tick in x.ticks), "grid")
        self.label_ticks(x)

    def titles(self, x_title: str, y_title: str) -> None:
        self.text((self.left + self.right) / 2, self.height - 6, clipped(x_title, self.width - 40), "title mid")
        if y_title:
            self.text(2, 13, clipped(y_title, self.width - 10), "title")

    def path(self, data: str, kind: str) -> None:
        if data:
            self.parts.append(tag("path", {"class": kind, "d": data}))

    def line(self, points: Sequence[Pixels], kind: str) -> None:
        """Draw a line with a dot at each point."""
        self.path(line_of(points), f"line {kind}")
        self.dots(points, kind)

    def dots(self, points: Sequence[Pixels], kind: str) -> None:
        """Draw every point in one element: a path of lines of no length with round ends."""
        self.path("".join(f"M{x:.1f} {y:.1f}h0" for x, y in points), f"dots {kind}")

    def box(self, scale: Scale, y: float, figures: Sequence[float]) -> None:
        """Draw lowest value, quartiles and highest value on a horizontal scale: a line, a bar and a dot."""
        low, q25, median, q75, high = map(scale, figures)
        self.path(f"M{low:.1f} {y}H{high:.1f}", "whisker")
        self.path(f"M{q25:.1f} {y}H{max(q75, q25 + 1):.1f}", "box")
        self.dots([(median, y)], "s0")

    def text(self, x: float, y: float, text: str, kind: str) -> None:
        self.parts.append(tag("text", {"x": float(x), "y": float(y), "class": kind}, text))

    def svg(self) -> Markup:
        box, kind = f"0 0 {self.width} {self.height:.0f}", "chart wide" if self.width > WIDTH else "chart"
        return tag("svg", {"viewBox": box, "role": "img", "aria-label": self.label, "class": kind}, joined(self.parts))


def on_both_screens(draw: Callable[[int], Markup]) -> Markup:
    """Return two pictures of the same, of which each screen shows one. ``draw`` makes one of a width."""
    sizes = {"only-narrow": WIDTH, "only-wide": WIDE}
    return joined(tag("div", {"class": name}, draw(width)) for name, width in sizes.items())


def line_of(points: Sequence[Pixels]) -> str:
    return "".join(f"{'L' if at else 'M'}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(points))


def clipped(text: str, pixels: float) -> str:
    """Return the text, cut with an ellipsis to a width."""
    room = max(4, int(pixels / CHARACTER))
    return text if len(text) <= room else text[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
