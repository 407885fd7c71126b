"""The hook that refuses commands that cancel jobs or submit them past hpc-agent: a table of spellings."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import hpc_agent

HOOK = Path(hpc_agent.__file__).parent / "slash_commands" / "hooks" / "hpc-agent-guard.py"
TABLE = Path(__file__).resolve().parents[1] / "data" / "guard.txt"


def spellings() -> list[tuple[str, str | None]]:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines()[1:] if line]
    pairs = [(line[:9].strip(), line[9:].replace("⏎", "\n")) for line in rows]
    return [(command, None if found == "-" else found) for found, command in pairs]


@pytest.fixture(scope="module")
def guard():
    """The hook as a module; its file name is no module name."""
    spec = importlib.util.spec_from_file_location("hpc_agent_guard", HOOK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("command", "expected"), spellings(), ids=range(len(spellings())))
def test_a_spelling(guard, command, expected):
    assert guard.Guard().find(command) == expected, command


def test_the_table_is_long_and_has_both_sides():
    found = [expected for _, expected in spellings()]
    assert len(found) - found.count(None) >= 150
    assert found.count(None) >= 80


def answer(call: object, python: str = sys.executable) -> tuple[int, str]:
    done = subprocess.run(
        [python, "-I", str(HOOK)], input=json.dumps(call) if not isinstance(call, str) else call,
        capture_output=True, text=True, timeout=30, check=False, env={},
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def bash(command: object) -> dict[str, object]:
    return {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": command}}


@pytest.mark.parametrize(("command", "advice"), [("scancel 5", "Ask the person"), ("sbatch x", "'hpc-agent submit'")])
def test_the_answer_is_a_decision_with_the_way_to_go(command, advice):
    code, text = answer(bash(command))
    said = json.loads(text)["hookSpecificOutput"]
    assert (code, said["hookEventName"], said["permissionDecision"]) == (0, "PreToolUse", "deny")
    assert advice in said["permissionDecisionReason"]


@pytest.mark.parametrize(
    "call",
    [bash("hpc-agent status"), {**bash("sbatch x"), "tool_name": "Write"}, bash(["sbatch"]), {"tool_name": "Bash"},
     [], "no json", ""],
)  # fmt: skip
def test_anything_else_is_left_to_the_usual_rules(call):
    """An exit code of 2 would block every command of the session."""
    assert answer(call) == (0, "")


def test_no_text_makes_it_fail(guard):
    """A crash would let the command through, or block all of them."""
    pieces = ["sbatch", "'", '"', "`", "$(", ")", "${", "}", "<<E", "\n", "\\", ";", "|", "case", "in", "esac", "((", "[[",
              " ", "$", "x=", "(", "ssh h", "bash -c", "xargs", "{a,b}", "<(", "é", "\0", "env -S", "find -exec"]  # fmt: skip
    rng = random.Random(7)
    for _ in range(20_000):
        command = "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(rng.randint(1, 12)))
        assert guard.Guard().find(command) in {None, "scontrol", *guard.DENIED}
    assert guard.Guard().find("$(" * 3000) is None
    assert guard.Guard().find("sudo " * 3000 + "sbatch x") == "sbatch"
