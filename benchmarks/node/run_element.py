"""Run one array element here and now, as its job would, and tell its CPU seconds.

    python run_element.py RUN_FOLDER ARRAY ELEMENT

``dispatcher`` is the process that the job script starts; ``tree`` adds all that it started and waited for.
"""

import json
import os
import resource
import runpy
import sys
import time

folder, array, element = sys.argv[1:]
os.environ.update(HPC_RUN_DIR=folder, HPC_ARRAY=array, HPC_ELEMENT=element, HPC_JOB_ID="1")
launcher = os.path.join(folder, "work", ".hpc", "_hpc_dispatch.py")
sys.argv = [launcher, "task"]


def used(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


before, begun, code = used(resource.RUSAGE_SELF), time.time(), 0
output = os.dup(1)
os.dup2(2, 1)
try:
    runpy.run_path(launcher, run_name="__main__")
except SystemExit as ended:
    code = ended.code or 0
dispatcher = used(resource.RUSAGE_SELF) - before
answer = {
    "dispatcher": dispatcher,
    "tree": dispatcher + used(resource.RUSAGE_CHILDREN),
    "wall": time.time() - begun,
    "code": code,
}
os.write(output, (json.dumps(answer) + "\n").encode())
