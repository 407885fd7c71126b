"""squeue, qstat, sacct and qacct that fail, hang, or answer by halves, while tasks run, after they ended, and in a look-up."""

from __future__ import annotations

import functools
import os
import shutil
import time

from fault_bench import COMMAND_LIMIT_SEC, Bench, until
from fault_kills import STEPS, kill_client
from faults import Outcome, fault

WRAPPER = """#!/bin/bash
real={real}
{lie}
"""
LIES = {
    "fails": "echo 'error: something is wrong in there' >&2\nexit 1",
    "hangs": f"exec sleep {COMMAND_LIMIT_SEC + 65}",
    "prints half an answer": 'text=$("$real" "$@")\nprintf %s "${text:0:$(( ${#text} / 2 ))}"',
    "prints nothing with exit 0": "exit 0",
    "prints half an answer and fails": 'text=$("$real" "$@")\nprintf %s "${text:0:$(( ${#text} / 2 ))}"\nexit 1',
    "prints words": "echo 'the scheduler is resting'\necho 42",
}
# A task that loses its dispatcher: no record, so that accounting has to say what became of it.
LOSE_RECORD = """if [ "$X" = 1 ]; then
    pid=$PPID
    until grep -qa _hpc_dispatch.py /proc/$pid/cmdline; do pid=$(awk '/^PPid/ { print $2 }' /proc/$pid/status); done
    kill -9 $pid
    sleep 60
fi"""


def tools(bench: Bench) -> tuple[str, str]:
    """The queue's tool, and accounting's."""
    return ("squeue", "sacct") if bench.slurm else ("qstat", "qacct")


def spoil(bench: Bench, tool: str, lie: str) -> None:
    path = bench.lies / tool
    path.write_text(WRAPPER.format(real=shutil.which(tool), lie=lie))
    path.chmod(0o755)


def heal(bench: Bench) -> None:
    for path in bench.lies.iterdir():
        if path.is_file():
            path.unlink()


def queue_lies(lie: str, bench: Bench) -> Outcome:
    """Looks while tasks run and after they ended; none may say more than the records do."""
    exp = bench.experiment(middle="sleep 2")
    bench.submit_until(exp)
    looks = 1 if "sleep" in lie else 3
    for tool in tools(bench):
        spoil(bench, tool, lie)
    for _ in range(looks):
        bench.status(exp)
        time.sleep(0.5)
    until(lambda: exp.done == exp.tasks, 30)
    heal(bench)
    return bench.judge(exp)


def accounting_lies(lie: str, bench: Bench) -> Outcome:
    """A task without a record, and an accounting that does not tell: it may be unknown, but neither complete nor forgotten."""
    exp = bench.experiment(middle=LOSE_RECORD, may_fail=[1])
    bench.submit_until(exp)
    spoil(bench, tools(bench)[1], lie)
    until(lambda: exp.done == exp.tasks - 1, 30)
    for _ in range(1 if "sleep" in lie else 3):
        bench.status(exp)
        time.sleep(0.5)
    heal(bench)
    return bench.judge(exp, failed=[1])


def look_up_lies(lie: str, bench: Bench) -> Outcome:
    """Killed between intent and job id, and then nobody can be asked: nothing may be submitted blindly."""
    exp = bench.experiment()
    client = bench.client(exp, *bench.submit_words(exp))
    until(lambda: STEPS["the first intent is written"](bench, exp), 20, 0.001)
    kill_client(client.pid)
    client.wait(30)
    for path in bench.there(exp, "runs/*/jobs/*.json"):  # as the ledger is when the node side is killed right there
        until(lambda: STEPS["the second job id is written"](bench, exp), 20)
        forget_job_id(path)
    for tool in tools(bench):
        spoil(bench, tool, lie)
    answer = bench.submit(exp)
    if answer.ok and "nothing" not in lie:
        bench.found.wrong.append(f"accepted while the scheduler could not be asked: {answer}")
    heal(bench)
    bench.submit_until(exp)
    return bench.judge(exp)


def forget_job_id(path) -> None:
    """At once: an element that is just starting must not find half a ledger."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(path.read_text().replace('"state":"submitted"', '"state":"intent"'))
    shutil.copystat(path, fresh)
    os.chown(fresh, path.stat().st_uid, path.stat().st_gid)
    fresh.replace(path)


for _name, _lie in LIES.items():
    _quick = _name in ("fails", "prints half an answer", "prints nothing with exit 0")
    fault(f"queue and accounting: the tool {_name}", tries=3, in_tests=_quick)(functools.partial(queue_lies, _lie))
    fault(f"accounting alone: the tool {_name}", tries=2, in_tests=_name == "fails")(
        functools.partial(accounting_lies, _lie)
    )
for _name in ("fails", "hangs", "prints half an answer and fails"):
    fault(f"look-up of an unfinished intent: the tool {_name}", tries=3, in_tests=_name == "fails")(
        functools.partial(look_up_lies, LIES[_name])
    )
