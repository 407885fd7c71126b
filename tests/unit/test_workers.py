"""What workers know of the program that they run in place of an interpreter."""

import json
import os
import signal
import socket
import threading
import time
import types

from hpc_agent.experiment.writing.tasks_file import CLI_SOURCE, sign
from hpc_agent.node.job.worker_imports import is_scaffold
from hpc_agent.node.job.worker_messages import LENGTH, receive
from hpc_agent.node.job.worker_values import Values
from hpc_agent.node.job.workers import interpreter_of


def test_the_program_is_the_one_that_is_written_into_repos():
    """Whoever changes the scaffold looks whether ``worker_imports.Program`` still does what it does."""
    text = CLI_SOURCE.read_text()
    assert is_scaffold(text)
    assert is_scaffold(sign(text))
    assert not is_scaffold(sign(text).replace("return", "return "))


def test_values_of_a_program_can_be_seen_to_change():
    namespace = types.ModuleType("own")
    namespace.__file__ = str(CLI_SOURCE)
    exec(CLI_SOURCE.read_text(), namespace.__dict__)
    assert Values({"own": namespace}).unseen == ""


def test_a_signal_within_a_message_loses_nothing_of_it():
    """Metrics may have megabytes: the handler of a signal runs while they arrive."""
    mine, other = socket.socketpair()
    message = {"metrics": "x" * (1 << 20), "code": 0}

    def tell():
        data = json.dumps(message).encode()
        other.sendall(LENGTH.pack(len(data)) + data[:1000])
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.2)
        other.sendall(data[1000:])

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    teller = threading.Thread(target=tell)
    try:
        teller.start()
        assert receive(mine) == message
    finally:
        teller.join(30)
        signal.signal(signal.SIGUSR1, before)
        mine.close()
        other.close()


def test_the_interpreter_is_that_of_the_command():
    assert interpreter_of("python3.12 .hpc/cli.py") == "python3.12"
