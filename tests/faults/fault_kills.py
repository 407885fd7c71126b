"""Clients and node sides that are killed, at random or after a step that can be seen from outside."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fault_bench import Bench, Experiment, until
from fault_processes import end_tree, node_processes
from fault_scheduler import jobs_of
from faults import SCHEDULERS, Outcome, fault

KILLS = 100
LONGEST_SEC = 3.0
# A node side that was killed holds the run's lock until its lease is over.
LEASE_SEC = 200
Seen = Callable[[Bench, Experiment], object]


def kill_client(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def some_kill(bench: Bench) -> Callable[[int], None]:
    """The client alone, or its machine: ssh and rsync with it. Without a host the node side would go too: see below."""
    return kill_client if bench.site.transport == "local" else bench.dice.choice((kill_client, end_tree))


def kill_and_repeat(
    bench: Bench,
    wait: Callable[[Experiment], object],
    kill: Callable[[int], None],
    large: bool = False,
    flags: tuple[str, ...] = (),
) -> Outcome:
    """Start submit, kill it when ``wait`` returns, and give the same command again."""
    exp = bench.experiment(large=large, flags=flags)
    client = bench.client(exp, *bench.submit_words(exp))
    wait(exp)
    kill(client.pid)
    client.wait(60)
    bench.submit_until(exp)
    return bench.judge(exp)


@fault("client killed at a random instant of submit", ("local", *SCHEDULERS), tries=KILLS)
def killed_at_random(bench: Bench) -> Outcome:
    longest = 1.2 if bench.site.scheduler == "local" else LONGEST_SEC
    wait, large = bench.dice.uniform(0.1, longest), bench.dice.random() < 0.5
    flags = bench.dice.choice(((), ("--pack", "2")))
    return kill_and_repeat(bench, lambda _: time.sleep(wait), some_kill(bench), large, flags)


@fault("client killed three times in a row", ("local", *SCHEDULERS), tries=10)
def killed_again_and_again(bench: Bench) -> Outcome:
    exp = bench.experiment()
    for _ in range(3):
        client = bench.client(exp, *bench.submit_words(exp))
        time.sleep(bench.dice.uniform(0.3, LONGEST_SEC))
        some_kill(bench)(client.pid)
        client.wait(60)
    bench.submit_until(exp)
    return bench.judge(exp)


@fault(
    "submission killed at a random instant, asked about, then given in another shape", ("local", *SCHEDULERS), tries=20
)
def killed_and_reshaped(bench: Bench) -> Outcome:
    """A look tells of jobs that are there, and denies none; each task is in one array, and counts once."""
    exp = bench.experiment()
    client = bench.client(exp, *bench.submit_words(exp))
    time.sleep(bench.dice.uniform(0.3, LONGEST_SEC))
    for pid in (*node_processes(bench.token), client.pid):
        end_tree(pid)
    client.wait(60)
    look = bench.status(exp)
    there = bench.site.scheduler != "local" and jobs_of(bench.site.scheduler, exp.repo.name)
    if there and look.error == "precondition_failed" and "no job" in str(look.envelope["message"]):
        bench.found.wrong.append(f"the scheduler has {there}, but: {look}")
    exp.flags = ("--pack", "2")
    bench.submit_until(exp, LEASE_SEC)
    outcome = bench.judge(exp)
    table = bench.call(exp, "aggregate").data
    path = Path(table["table_csv"]).with_name("table.json") if "table_csv" in table else None
    overall = json.loads(path.read_text())["overall"] if path else {}
    if (counted := overall.get("y", {}).get("count", 0)) != exp.tasks:
        outcome.wrong.append(f"{exp.tasks} tasks gave {counted} observations")
    return outcome


# -- after a step ----------------------------------------------------------------------------------------------------


def journal_has(event: str, bench: Bench, exp: Experiment) -> bool:
    return any(f'"{event}"' in path.read_text() for path in bench.journals())


def there(pattern: str, bench: Bench, exp: Experiment) -> object:
    return bench.there(exp, pattern)


def ledger_says(state: str, array: str, bench: Bench, exp: Experiment) -> bool:
    for path in bench.there(exp, f"runs/*/jobs/{array}.json"):
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text()).get("state") == state
    return False


PUSHES = ("the incoming folder is there", "a file was pushed")  # there is time for them where much is pushed
STEPS: dict[str, Seen] = {
    "the journal says submitting": functools.partial(journal_has, "submitting"),
    "the sidecar is written": lambda bench, exp: list(exp.repo.glob(".hpc/runs/*.json")),
    "the runtime is being put in place": functools.partial(there, "runtime/*"),
    "the incoming folder is there": functools.partial(there, "incoming/*"),
    "a file was pushed": functools.partial(there, "incoming/*/*"),
    "the run's lock is taken": functools.partial(there, "runs/*/submit.lock"),
    "the snapshot is in place": functools.partial(there, "snapshots/*"),
    "the run's document is written": functools.partial(there, "runs/*/run.json"),
    "the first intent is written": functools.partial(ledger_says, "intent", "a0"),
    "the first job id is written": functools.partial(ledger_says, "submitted", "a0"),
    "the second intent is written": functools.partial(ledger_says, "intent", "a1"),
    "the second job id is written": functools.partial(ledger_says, "submitted", "a1"),
    "the journal says submitted": functools.partial(journal_has, "submitted"),
}


def killed_after(seen: Seen, large: bool, bench: Bench) -> Outcome:
    return kill_and_repeat(bench, lambda exp: until(lambda: seen(bench, exp), 20, 0.001), some_kill(bench), large)


for _step, _seen in STEPS.items():
    fault(f"client killed after: {_step}", tries=3, in_tests="intent" in _step)(
        functools.partial(killed_after, _seen, _step in PUSHES)
    )


# -- the node side ---------------------------------------------------------------------------------------------------


def node_killed_after(seen: Seen, bench: Bench) -> Outcome:
    """The login node kills the process that submits (memory, a reboot): its lock is broken when the lease is over."""
    exp = bench.experiment()
    client = bench.client(exp, *bench.submit_words(exp))
    until(lambda: seen(bench, exp), 20, 0.001)
    for pid in node_processes(bench.token):
        end_tree(pid)
    client.wait(60)
    bench.submit_until(exp, LEASE_SEC)
    return bench.judge(exp)


for _step in ("the run's lock is taken", "the first intent is written", "the second intent is written"):
    fault(f"node side killed after: {_step}", tries=2, in_tests=False)(
        functools.partial(node_killed_after, STEPS[_step])
    )
