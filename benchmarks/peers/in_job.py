"""Run a command in one job of the scheduler, and wait until its record is there."""

import json
import os
import shlex
import subprocess
import sys
import time

spec, command = json.loads(sys.argv[1]), sys.argv[2:]
script = os.path.join(spec["folder"], "one-job.sh")
ended = os.path.join(spec["folder"], "one-job.ended")
with open(script, "w") as handle:
    handle.write("#!/bin/bash\nexport PYTHONPATH=%s\n" % shlex.quote(spec["code"]))
    handle.write("%s\necho $? >%s.part; mv %s.part %s\n" % (shlex.join(command), *[shlex.quote(ended)] * 3))
if os.path.exists(ended):
    os.unlink(ended)
cores = str(spec["workers"])
slurm = [
    "sbatch",
    "--partition=batch",
    "--mem=1G",
    "--time=10",
    "--cpus-per-task=" + cores,
    "--chdir=" + spec["folder"],
]
grid_engine = ["qsub", "-q", "all.q", "-S", "/bin/bash", "-pe", "shared", cores, "-wd", spec["folder"]]
submit = {"slurm": slurm, "sge": grid_engine, "local": ["bash"]}[spec["site"]]
subprocess.run([*submit, script], check=True, stdout=subprocess.DEVNULL)
end = time.monotonic() + spec["limit_sec"]
while not os.path.exists(ended):
    if time.monotonic() > end:
        raise SystemExit("the job did not end within %d s" % spec["limit_sec"])
    time.sleep(0.02)
with open(ended) as handle:
    code = int(handle.read())
if code:
    raise SystemExit("the command in the job ended with exit code %d" % code)
