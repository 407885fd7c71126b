"""Describe the fields of requests and results; the descriptions become the help of flags, the schemas and the pages."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.vocabulary import Positive, PositiveFloat, doc

__all__ = ["ClusterName", "ExperimentDir", "Positive", "PositiveFloat", "doc"]

ExperimentDir = Annotated[str, doc("the experiment repo")]
ClusterName = Annotated[str, doc("name in clusters.yaml")]
