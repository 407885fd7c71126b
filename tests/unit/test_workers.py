"""What workers know of the program that they run in place of an interpreter."""

import hashlib

from hpc_agent.experiment.writing.tasks_file import CLI_SOURCE
from hpc_agent.node.job.worker_imports import SCAFFOLD
from hpc_agent.node.job.worker_values import Values
from hpc_agent.node.job.workers import interpreter_of


def test_the_program_is_the_one_that_is_written_into_repos():
    """Whoever changes the scaffold looks whether ``worker_imports.Program`` still does what it does."""
    assert hashlib.sha256(CLI_SOURCE.read_bytes()).hexdigest() == SCAFFOLD


def test_values_of_a_program_can_be_seen_to_change():
    namespace = type(hashlib)("own")
    exec(CLI_SOURCE.read_text(), namespace.__dict__)
    assert Values({"own": namespace}).unseen == ""


def test_the_interpreter_is_that_of_the_command():
    assert interpreter_of("python3.12 .hpc/cli.py") == "python3.12"
