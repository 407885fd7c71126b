"""A run in a list: what its journal says of its state. The sidecar has the rest."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hpc_agent.ops.run.fields import doc
from hpc_agent.state.journal import RunRecord

JOBS_SHOWN = 5


class RunRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run as of the last look; what is empty is left out. ``.hpc/runs/<run_id>.json`` has code, resources and places."""

    run_id: str
    status: Annotated[str, doc("submitting, in_flight, complete, failed or abandoned")]
    cluster: str
    total_tasks: int
    campaign_id: str | None = None
    submitted_at: Annotated[float | None, doc("seconds since the epoch; not there until every array was accepted")] = (
        None
    )
    job_ids: Annotated[list[str], doc("the first five")] = []
    job_count: Annotated[int, doc("jobs, where there are more than five")] = 0
    waiting: Annotated[int, doc("arrays that are planned and not submitted yet")] = 0
    last_status: Annotated[dict[str, int], doc("tasks by their state as of the last look, without zeros")] = {}
    last_status_at: float | None = None
    resubmits: Annotated[int, doc("calls that submitted failed tasks again")] = 0
    open_resubmit: Annotated[str | None, doc("a resubmission whose outcome is not known here yet")] = None
    pruned_at: Annotated[float | None, doc("when the run was removed on its cluster: see prune-runs")] = None
    output: Annotated[str | None, doc("folder of the last aggregate")] = None
    command: Annotated[str | None, doc("goes on with a submission that was interrupted")] = None


def run_row(record: RunRecord) -> RunRow:
    """Return the row of a run."""
    facts = {name: getattr(record, name) for name in RunRow.__struct_fields__ if hasattr(record, name)}
    jobs = len(record.job_ids)
    return RunRow(
        **{
            **facts,
            "job_ids": record.job_ids[:JOBS_SHOWN],
            "job_count": jobs if jobs > JOBS_SHOWN else 0,
            "last_status": {name: count for name, count in record.last_status.items() if count},
        }
    )
