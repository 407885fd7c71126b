"""dask-jobqueue: workers in jobs of the scheduler, or a local cluster of processes."""

import json
import logging
import sys

import work
from dask.distributed import Client, LocalCluster

WORKER = {"cores": 1, "processes": 1, "memory": "1GB", "walltime": "00:10:00", "death_timeout": 120}


def cluster(spec):
    if spec["site"] == "local":
        return LocalCluster(n_workers=spec["workers"], threads_per_worker=1, dashboard_address=None)
    from dask_jobqueue import SGECluster, SLURMCluster

    common = dict(WORKER, log_directory=spec["folder"], local_directory=spec["folder"],
                  job_script_prologue=["export PYTHONPATH='%s'" % spec["code"]],
                  scheduler_options={"dashboard_address": None})  # fmt: skip
    if spec["site"] == "slurm":
        made = SLURMCluster(queue="batch", **common)
    else:
        made = SGECluster(queue="all.q", resource_spec="h_data=16G", **common)
    made.scale(jobs=spec["workers"])
    return made


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    logging.getLogger("distributed").setLevel(logging.ERROR)
    numbers = range(spec["tasks"])
    with cluster(spec) as workers, Client(workers) as client:
        values = client.gather(client.map(getattr(work, spec["kind"]), numbers, pure=False))
        work.record(spec["out"], zip(numbers, values))
