"""The first commands that the demo prints run where they are pasted."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from hpc_agent.ops.flows.demo import _path_first


def test_the_demo_of_a_venv_that_is_not_active_says_how_the_next_commands_are_found(tmp_path, monkeypatch):
    program = tmp_path / "v env" / "bin" / "hpc-agent"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.parent / "python3"))
    world = SimpleNamespace(env={"PATH": "/usr/bin:/bin"})
    [step] = _path_first(world)
    done = subprocess.run(
        ["bash", "-c", f"{step}; hpc-agent"], env=world.env, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "found\n"
    world.env["PATH"] = f"{program.parent}:/bin"
    assert _path_first(world) == []
