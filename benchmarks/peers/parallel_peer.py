"""GNU parallel: its job log is the record."""

import json
import os
import subprocess
import sys

import work

spec = json.loads(sys.argv[1])
log = os.path.join(spec["folder"], "joblog-%d" % os.getpid())
command = ["parallel", "--will-cite", "-n1", "-j%d" % spec["workers"], "--joblog", log, "/bin/true #"]
lines = "\n".join(str(number) for number in range(spec["tasks"]))
subprocess.run(command, input=lines.encode(), check=True)
with open(log) as handle:
    rows = [line.split("\t") for line in handle][1:]
work.record(spec["out"], ((int(row[0]) - 1, int(row[6])) for row in rows))
