"""The rules for Claude Code in an experiment's settings: nothing lost, nothing twice, nothing overwritten."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.claude_settings import RULES, merged_settings

OURS = json.loads(RULES.read_bytes())


def merged(path: Path, text: str | None) -> tuple[str, dict]:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    result = merged_settings(path)
    return result, json.loads(result)


def test_without_a_file_the_rules_are_the_file(tmp_path):
    text, document = merged(tmp_path / "settings.json", None)
    assert document == OURS
    assert OURS["permissions"]["allow"] == ["Bash(hpc-agent:*)"]
    assert {"Bash(scancel:*)", "Bash(qdel:*)"} <= set(OURS["permissions"]["deny"])
    assert merged(tmp_path / "settings.json", text)[0] == text


@pytest.mark.parametrize(
    "text",
    [
        '{"model": "x", "permissions": {"allow": ["Bash(ls:*)"], "ask": ["Write"], "defaultMode": "plan"}}',
        '{"hooks": {"PreToolUse": [{"matcher": "Write", "hooks": [{"type": "command", "command": "mine"}]}], "Stop": []}}',
        '{"permissions": {"deny": ["Bash(qdel:*)", "Bash(rm:*)"]}, "ü": [1, null]}',
        "{}",
    ],
)
def test_what_is_there_stays_and_comes_first(tmp_path, text):
    before = json.loads(text)
    once, document = merged(tmp_path / "settings.json", text)

    def contains(outer: object, inner: object) -> bool:
        if isinstance(inner, dict):
            return all(name in outer and contains(outer[name], value) for name, value in inner.items())
        return outer[: len(inner)] == inner if isinstance(inner, list) else outer == inner

    assert contains(document, before)
    for kind, rules in OURS["permissions"].items():
        assert sorted(set(document["permissions"][kind])) == sorted(document["permissions"][kind])
        assert set(rules) <= set(document["permissions"][kind])
    assert sum("hpc-agent-guard" in json.dumps(entry) for entry in document["hooks"]["PreToolUse"]) == 1
    assert merged(tmp_path / "settings.json", once)[0] == once


def test_a_rule_in_the_other_spelling_is_not_added_again(tmp_path):
    text = json.dumps(
        {**OURS, "permissions": {"allow": ["Bash(hpc-agent *)"], "deny": ["Bash(scancel *)", "Bash(qdel *)"]}}
    )
    assert merged(tmp_path / "settings.json", text)[0] == text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"permissions": []}', '{"permissions": {"allow": "x"}}', '{"hooks": 1}',
             '{"permissions": {"allow": [1]}}', '{"hooks": {"PreToolUse": ["x"]}}', "// comment\n{}",
             '{"cleanupPeriodDays": 1e400}', '{"env": {"A": "\\ud83d"}}']
)  # fmt: skip
def test_settings_of_another_shape_are_told_and_left(tmp_path, text):
    path = tmp_path / "settings.json"
    with pytest.raises(SpecInvalid, match="was left as it is") as caught:
        merged(path, text)
    assert caught.value.field == "allow_cli"
    assert "object has no attribute" not in caught.value.message
    assert path.read_text() == text


def test_the_hook_of_the_rules_does_nothing_where_it_is_not_installed(tmp_path):
    """Settings travel with the repo to people without it: a missing script must not block their commands."""
    [[command]] = [[hook["command"] for hook in entry["hooks"]] for entry in OURS["hooks"]["PreToolUse"]]
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    call = json.dumps({"tool_name": "Bash", "tool_input": {"command": "scancel 5"}})

    def run() -> tuple[int, str]:
        done = subprocess.run(["sh", "-c", command], input=call, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert run() == (0, "")
    (tmp_path / ".claude/hooks").mkdir(parents=True)
    (tmp_path / ".claude/hooks/hpc-agent-guard.py").write_bytes(
        (RULES.parent / "hooks/hpc-agent-guard.py").read_bytes()
    )
    code, out = run()
    assert (code, json.loads(out)["hookSpecificOutput"]["permissionDecision"]) == (0, "deny")
