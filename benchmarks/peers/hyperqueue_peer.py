"""HyperQueue by its Python package, which has server and workers (LocalCluster) but not the program ``hq``: both run in one job.

Its functions each start an interpreter, and their values do not come back: each one appends its value to the record.
"""

import contextlib
import json
import os
import sys

import work
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

spec = json.loads(sys.argv[1])
out, numbers = spec["out"], range(spec["tasks"])
cluster = LocalCluster(spec["folder"] + "/hq", WorkerConfig(cores=spec["workers"]))
client, job = cluster.client(), Job(max_fails=None)
for number in numbers:
    if spec["kind"] == "process":
        job.program(["/bin/true"], stdout=None, stderr=None)
    else:
        job.function(work.append, args=(spec["kind"], number, out + ".part"), stdout=None, stderr=None)
with contextlib.redirect_stderr(open(os.devnull, "w")):  # its bar of progress
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], raise_on_error=False)
failed = client.get_failed_tasks(submitted)
if spec["kind"] == "process":
    work.record(out, ((number, 1 if number in failed else 0) for number in numbers))
else:
    os.rename(out + ".part", out)
os._exit(0)  # without waiting until the workers have stopped
