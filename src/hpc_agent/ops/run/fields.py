"""Describe the fields of requests and results; the descriptions become the help of flags, the schemas and the pages."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta


def doc(description: str, **limits: Any) -> Meta:
    """Return the description of a field with its limits (gt, ge, le, pattern, min_length, max_length)."""
    return Meta(description=description, **limits)


Positive = Annotated[int, Meta(gt=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
ExperimentDir = Annotated[str, doc("the experiment repo")]
ClusterName = Annotated[str, doc("name in clusters.yaml")]
