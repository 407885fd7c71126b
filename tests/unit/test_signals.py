"""Signals of a scheduler, on their way through the dispatcher to the executor."""

import os
import signal
import threading
import time

import pytest

from hpc_agent.node.job import execute
from hpc_agent.node.job.outputs import Log
from hpc_agent.node.shared.task_record import TaskRecord

pytestmark = pytest.mark.timeout(60)
HANDLER = """import os, signal, sys, time
def act(number, frame):
    print(signal.Signals(number).name, flush=True)
    exec(os.environ["THEN"])
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
    signal.signal(getattr(signal, name), act)
open("ready", "w").close()
time.sleep(float(os.environ["NAP"]))
"""


def signalled(tmp_path, number, command='python3 program.py; code=$?; exit "$code"', then="", nap=1.5, result="a"):
    """Run a program with handlers below a shell without any, and send a signal once it is ready. Return record and log."""
    (tmp_path / "program.py").write_text(HANDLER)
    folder = tmp_path / "result"
    folder.mkdir()
    if result:
        (folder / result).touch()

    def send():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    env = {**os.environ, "THEN": then, "NAP": str(nap), "HPC_RESULT_DIR": str(folder)}
    log = tmp_path / "log"
    record = execute.run(TaskRecord(0, "failed"), command, env, str(tmp_path), Log(str(log)), grace=1)
    sender.join()
    return record, log.read_text()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_that_the_program_has_a_handler_for_arrives_as_it_is(tmp_path, name):
    record, log = signalled(tmp_path, getattr(signal, name))
    assert (record.state, log) == ("complete", name + "\n")


@pytest.mark.parametrize("command", ["touch ready; exec sleep 30", "touch ready; sleep 30; true"])
def test_a_program_without_a_handler_is_stopped_as_by_sigterm(tmp_path, command):
    record, _ = signalled(tmp_path, signal.SIGUSR1, command)
    assert (record.cause, record.seconds < 20) == ("terminated", True)


def test_a_program_that_ignores_the_signal_goes_on(tmp_path):
    record, _ = signalled(tmp_path, signal.SIGUSR1, "trap '' USR1; touch ready; sleep 1.5; true")
    assert record.state == "complete"


@pytest.mark.parametrize(
    ("then", "result", "cause"),
    [
        ("sys.exit(0)", "", "terminated"),  # saved and stopped: not complete
        ("sys.exit(0)", "metrics.json", None),
        ("sys.exit(3)", "", "code_error"),
        ("signal.signal(number, signal.SIG_DFL); os.kill(os.getpid(), number)", "", "terminated"),
        ("", "", "terminated"),  # went on, and left nothing
    ],
)
def test_the_end_after_a_signal(tmp_path, then, result, cause):
    record, _ = signalled(tmp_path, signal.SIGUSR1, then=then, result=result)
    assert record.cause == cause
    if cause == "terminated":
        assert "SIGUSR1" in record.message


def test_sigterm_after_a_signal_that_was_passed_on_stops(tmp_path):
    record, log = signalled(tmp_path, signal.SIGUSR1, then=f"os.kill({os.getpid()}, signal.SIGTERM)", nap=30)
    assert (record.cause, log) == ("terminated", "SIGUSR1\n")


def test_sigterm_while_the_rest_of_the_output_is_awaited_stops(tmp_path, monkeypatch):
    """The leader has ended, a child still holds the pipe: the next task of the element must not begin."""
    monkeypatch.setattr(execute, "LINGER_SEC", 3.0)
    ready = tmp_path / "ready"

    def send():
        while not (ready.exists() and (pid := ready.read_text().strip())) or os.path.exists(f"/proc/{pid}"):
            time.sleep(0.02)  # until the leader has been waited for
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    log, env = str(tmp_path / "log"), {**os.environ, "HPC_RESULT_DIR": str(tmp_path)}
    record = execute.run(TaskRecord(0, "failed"), "sleep 30 & echo $$ >ready", env, str(tmp_path), Log(log), 1)
    sender.join()
    assert record.cause == execute.STOPPED


def test_where_the_scheduler_signals_every_process_itself_none_gets_the_signal_twice(tmp_path, monkeypatch):
    """The line is one of the file config in the spool folder of a job on the test bed's Grid Engine."""
    (tmp_path / "config").write_text("notify=10\nenable_addgrp_kill=1\n")
    monkeypatch.setenv("SGE_JOB_SPOOL_DIR", str(tmp_path))
    record, log = signalled(tmp_path, signal.SIGUSR1)
    assert (record.state, log) == ("complete", "")
