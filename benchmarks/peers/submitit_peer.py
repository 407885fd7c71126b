"""submitit: one array, an element a task."""

import json
import sys

import submitit
import work

spec = json.loads(sys.argv[1])
executor = submitit.AutoExecutor(folder=spec["folder"] + "/submitit", cluster=spec["site"])
executor.update_parameters(
    timeout_min=10, cpus_per_task=1, slurm_mem="200M", slurm_partition="batch", slurm_array_parallelism=16
)
numbers = range(spec["tasks"])
jobs = executor.map_array(getattr(work, spec["kind"]), numbers)
work.record(spec["out"], zip(numbers, [job.result() for job in jobs]))
