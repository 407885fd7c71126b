"""GPU memory, as nvidia-smi tells it; here a script that answers like it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from hpc_agent.node.job import gpu_memory


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(gpu_memory, "FIRST_SEC", 0.0)
    monkeypatch.setattr(gpu_memory, "EVERY_SEC", 0.02)


@pytest.fixture
def tool(tmp_path):
    """Write the script; it notes each query of it in the file ``$ASKED``."""

    def write(body):
        path = tmp_path / "nvidia-smi"
        path.write_text('#!/bin/sh\necho >>"$ASKED"\n' + body)
        path.chmod(0o755)
        return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked")}

    return write


def watched(env, session, seconds=20.0):
    """The peak, once the first answer is read: the second query has begun."""
    asked = Path(env["ASKED"])
    asked.write_text("")
    watch = gpu_memory.GpuWatch(session, env)
    end = time.monotonic() + seconds
    while len(asked.read_text()) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    watch.close()
    watch.join(seconds)
    assert not watch.is_alive()
    return watch.peak_mb


@pytest.fixture
def executor():
    """A process in a session of its own, as the runtime starts executors."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process.pid
        process.kill()


def test_the_processes_of_the_executor_count_and_no_others(tool, executor, monkeypatch):
    mine = os.getpid()  # another session's
    env = tool(f"echo '{executor}, 512'; echo '{executor}, 100'; echo '{mine}, 9000'; echo '1, 9000'; echo 'garbage'\n")
    monkeypatch.setenv("PATH", env["PATH"])
    assert watched(env, executor) == 612.0
    assert watched(env, 999999999) is None


def test_a_tool_that_is_not_there_is_asked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    watch = gpu_memory.GpuWatch(os.getpid(), {"PATH": str(tmp_path)})
    watch.join(20)
    assert not watch.is_alive()
    assert watch.peak_mb is None


def test_a_tool_that_hangs_ends_with_the_executor(tool, tmp_path):
    env = tool(f"echo $$ >{tmp_path}/pid; exec sleep 60\n")
    watch = gpu_memory.GpuWatch(os.getpid(), env)
    end = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.02)
    watch.close()
    watch.join(20)
    assert not watch.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_tool_that_hangs_is_ended(tool, monkeypatch):
    env = tool("exec sleep 60\n")
    monkeypatch.setenv("PATH", env["PATH"])
    monkeypatch.setattr(gpu_memory, "LIMIT_SEC", 0.1)
    assert watched(env, os.getpid()) is None
