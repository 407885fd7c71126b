"""Commands of the node side that do not answer in time."""

import os
import signal
import time

import pytest

from hpc_agent.node.shared import commands
from hpc_agent.node.shared.errors import NodeError


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path):
    pids = tmp_path / "pids"
    with pytest.raises(NodeError, match=r"sh did not answer") as raised:
        commands.run_command(["sh", "-c", f"sleep 300 & echo $! >{pids}; wait"], 1.0)
    assert raised.value.code == "cluster_timeout"
    end = time.monotonic() + 30
    while alive(int(pids.read_text())) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(int(pids.read_text()))


@pytest.mark.parametrize("kill", ["of another user", "of another user, below one's own"])
def test_a_setuid_tool_that_hangs_is_left_behind(monkeypatch, kill):
    """Its user cannot kill it: the answer is the same, and does not wait for the pipes that the tool holds."""
    groups = []

    def killpg(group, number):
        groups.append(group)
        if kill == "of another user":
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(commands.os, "killpg", killpg)
    monkeypatch.setattr(commands, "_END_SEC", 0.1)
    with pytest.raises(NodeError, match=r"sleep did not answer") as raised:
        commands.run_command(["sleep", "300"], 0.1)
    monkeypatch.undo()
    assert raised.value.code == "cluster_timeout"
    assert alive(groups[0])
    os.killpg(groups[0], signal.SIGKILL)
    os.waitpid(groups[0], 0)
