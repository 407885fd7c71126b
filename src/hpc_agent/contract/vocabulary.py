"""Words, limits and descriptions that requests, results and documents share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

# Two words for each end; ``hpc_agent.node.shared.metric_names.best_end`` reads them.
Direction = Literal["auto", "min", "max", "minimize", "maximize"]
Positive = Annotated[int, Meta(gt=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
# Fields of answers that hold commands for the reader.
ADVICE = frozenset(("next_step", "next_steps", "next_command", "remedy", "remediation", "fix"))


def doc(description: str, **limits: Any) -> Meta:
    """Return the description of a field with its limits (gt, ge, le, pattern, min_length, max_length)."""
    return Meta(description=description, **limits)
