"""joblib: its processes (loky) on the cores of one machine."""

import json
import sys

import joblib
import work

spec = json.loads(sys.argv[1])
task, numbers = getattr(work, spec["kind"]), range(spec["tasks"])
values = joblib.Parallel(n_jobs=spec["workers"])(joblib.delayed(task)(number) for number in numbers)
work.record(spec["out"], zip(numbers, values))
