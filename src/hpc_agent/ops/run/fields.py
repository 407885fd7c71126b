"""Describe the fields of requests and results; the descriptions become the help of flags, the schemas and the pages."""

from __future__ import annotations

from typing import Annotated

from hpc_agent.contract.vocabulary import Positive, PositiveFloat, doc

__all__ = ["ClusterName", "ExperimentDir", "Positive", "PositiveFloat", "doc"]

ExperimentDir = Annotated[str, doc("the experiment repo")]
ClusterName = Annotated[str, doc("name in clusters.yaml")]

# What the examples of the verbs submit: the grid of examples/horizon_sweep, on this machine.
_WRITE = '--output-file "$HPC_RESULT_DIR/metrics.json"'
EXAMPLE_EXECUTOR = f"python3 executors/$EXECUTOR.py --horizon $HORIZON --start $START --end $END {_WRITE}"
EXAMPLE_RIDGE = f"python3 executors/ml_ridge.py --horizon $HORIZON {_WRITE}"
EXAMPLE_RUN = {"cluster": "local", "executor": EXAMPLE_EXECUTOR}
