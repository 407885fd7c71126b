"""The floor: one process that runs all tasks in turn and records each."""

import json
import sys

import work

spec = json.loads(sys.argv[1])
task = getattr(work, spec["kind"])
work.record(spec["out"], ((number, task(number)) for number in range(spec["tasks"])))
