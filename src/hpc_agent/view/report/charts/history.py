"""Draw the history of a campaign: its trials with the best so far, and the Pareto front of two objectives."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_agent.view.report.data import Campaign
from hpc_agent.view.report.markup import Markup
from hpc_agent.view.report.numbers import fence, number
from hpc_agent.view.report.plot import Plot, Scale
from hpc_agent.view.terminal.words import counted


def history(told: Campaign, metric: str, width: int) -> Markup:
    """Draw each trial's value, the best so far as a line, failed trials at the foot, and the target."""
    trials, steps, target = told.trials or told.early, told.best, told.target
    best = f"best so far: {number(steps[-1][1])} (trial {steps[-1][0]})" if steps else "none may be the best"
    plot = Plot(f"{metric} of {counted(len(trials), 'trial')}; {best}", width, 270)
    low, high = fence([value for _, value in trials], 3.0)
    values = [low, high, *(value for _, value in steps), *([target] if target is not None else [])]
    last = max([at for at, _ in [*trials, *told.early]] + told.failed)
    x, y = Scale(0, max(1, last)), Scale.padded(min(values), max(values))
    plot.frame(x, y, "trial", metric)
    if told.earlier:
        edge = x(told.earlier - 0.5)
        plot.path(f"M{plot.left:.1f} {plot.top:.0f}H{edge:.1f}V{plot.bottom:.0f}H{plot.left:.1f}z", "earlier")
    plot.dots([(x(at), y(value)) for at, value in told.early], "early")
    plot.dots([(x(at), y(value)) for at, value in told.trials], "ring")
    if steps:
        data = f"M{x(steps[0][0]):.1f} {y(steps[0][1]):.1f}"
        data += "".join(f"H{x(at):.1f}V{y(value):.1f}" for at, value in steps[1:])
        plot.path(f"{data}H{x(last):.1f}", "line s1")
        plot.dots([(x(at), y(value)) for at, value in steps], "s1")
    plot.path("".join(f"M{x(at) - 3:.1f} {plot.bottom - 3:.0f}l6 6m0 -6l-6 6" for at in told.failed), "failed-mark")
    if target is not None:
        plot.path(f"M{plot.left:.0f} {y(target):.1f}H{plot.right:.0f}", "mark target")
        plot.text(plot.right, y(target) - 4, f"target {number(target)}", "tick end halo")
    plot.text(plot.right, 13, best, "label t1 end")
    return plot.svg()


def pareto(trials: Sequence[tuple[float, float]], front: Sequence[tuple[float, float]], names: Sequence[str]) -> Markup:
    """Draw two objectives against each other, with the trials that no other beats in both."""
    plot = Plot(f"{names[1]} against {names[0]}: {len(front)} trials on the Pareto front")
    x = Scale.padded(min(a for a, _ in trials), max(a for a, _ in trials))
    y = Scale.padded(min(b for _, b in trials), max(b for _, b in trials))
    plot.frame(x, y, names[0], names[1])
    plot.dots([(x(a), y(b)) for a, b in trials], "ring")
    plot.line([(x(a), y(b)) for a, b in sorted(front)], "s1")
    plot.text(plot.right, 13, "Pareto front", "label t1 end")
    return plot.svg()
