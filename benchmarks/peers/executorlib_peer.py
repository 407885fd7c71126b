"""executorlib: its executor for one machine, whose workers run many tasks in turn (block_allocation)."""

import json
import sys

import work
from executorlib import SingleNodeExecutor

if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    task, numbers = getattr(work, spec["kind"]), range(spec["tasks"])
    with SingleNodeExecutor(max_workers=spec["workers"], block_allocation=True) as executor:
        futures = [executor.submit(task, number) for number in numbers]
        work.record(spec["out"], ((number, future.result()) for number, future in zip(numbers, futures)))
