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
errors = os.path.join(spec["folder"], "one-job.stderr")
with open(script, "w") as handle:
    handle.write(
        "#!/bin/bash\nexport PYTHONPATH=%s PATH=%s:$PATH\n" % (shlex.quote(spec["code"]), shlex.quote(spec["bin"]))
    )
    handle.write("%s 2>%s\n" % (shlex.join(command), shlex.quote(errors)))
    handle.write("echo $? >%s.part; mv %s.part %s\n" % ((shlex.quote(ended),) * 3))
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
    with open(errors) as handle:
        said = handle.read().strip().splitlines()
    raise SystemExit(said[-1] if said else "the command in the job ended with exit code %d" % code)
