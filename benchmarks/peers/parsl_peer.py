"""Parsl: pilot blocks of its high-throughput executor, one worker each; a process is a bash_app."""

import json
import sys

import parsl
import work
from parsl.app.app import bash_app, python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import GridEngineProvider, LocalProvider, SlurmProvider


def provider(spec):
    init = "export PATH='%s':$PATH PYTHONPATH='%s'" % (spec["bin"], spec["code"])
    blocks = {"init_blocks": spec["workers"], "min_blocks": spec["workers"], "max_blocks": spec["workers"]}
    common = dict(blocks, nodes_per_block=1, launcher=SimpleLauncher(), worker_init=init)
    if spec["site"] == "slurm":
        return SlurmProvider(
            partition="batch", cores_per_node=1, mem_per_node=1, walltime="00:10:00", exclusive=False, **common
        )
    if spec["site"] == "sge":
        return GridEngineProvider(walltime="00:10:00", queue="all.q", scheduler_options="", **common)
    return LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1, launcher=SimpleLauncher(), worker_init=init)


def configuration(spec):
    workers = spec["workers"] if spec["site"] == "local" else 1  # a worker in each block
    executor = HighThroughputExecutor(
        label="htex", address="127.0.0.1", max_workers_per_node=workers, provider=provider(spec), encrypted=False
    )
    # It starts its blocks at the first tick of its strategy, which is after 5 s by default.
    timing = {"strategy": "none", "strategy_period": 0.1}
    return Config(executors=[executor], run_dir=spec["folder"] + "/parsl", usage_tracking=0, **timing)


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    numbers = range(spec["tasks"])
    with parsl.load(configuration(spec)):
        if spec["kind"] == "process":

            @bash_app
            def task(number):
                return "/bin/true"

        else:
            task = python_app(getattr(work, spec["kind"]))
        futures = [task(number) for number in numbers]
        work.record(spec["out"], zip(numbers, [future.result() for future in futures]))
