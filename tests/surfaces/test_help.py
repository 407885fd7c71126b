"""Help that a newcomer can read: within 80 columns, in the order of a run's life, with commands that run."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from hpc_agent.cli.help import LIFE, WIDTH, help_for
from hpc_agent.cli.parse import GROUPS
from hpc_agent.cli.programs import PROGRAMS
from hpc_agent.contract.catalogue import load_catalogue

CATALOGUE = load_catalogue()


def hpc_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "hpc_agent", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_every_verb_stands_in_one_group_of_the_overview():
    shown = help_for([], CATALOGUE)
    for verb, entry in CATALOGUE.items():
        assert shown.count(f"\n  {verb} ") == 1, verb
        assert entry.brief in shown
    titles = [line[:-1] for line in shown.splitlines() if line.endswith(":") and line[:-1] in LIFE]
    assert titles == [title for title in LIFE if title in titles]
    assert {entry.stage for entry in CATALOGUE.values()} <= {stage for stages in LIFE.values() for stage in stages}
    assert all(word in shown for word in PROGRAMS)


@pytest.mark.parametrize("words", [[], *([verb, "--help"] for verb in CATALOGUE), *([group, "-h"] for group in GROUPS)])
def test_help_has_80_columns(words):
    shown = help_for(words, CATALOGUE)
    long = [line for line in shown.splitlines() if len(line) > WIDTH]
    assert all(line.startswith("    --") and len(shlex.split(line.rstrip("\\"))) == 2 for line in long), (
        "an option and its value are never cut"
    )
    assert "``" not in shown


@pytest.mark.parametrize("verb", CATALOGUE)
def test_the_help_of_a_verb_has_an_example_and_every_flag(verb):
    entry = CATALOGUE[verb]
    shown = help_for(["help", verb], CATALOGUE)
    assert all(f" {flag.flag}" in shown or f" --[no-]{flag.flag[2:]}" in shown for flag in entry.flags)
    assert all(next_verb in shown for next_verb in entry.next_verbs)
    lines = shown[shown.index("example:\n") + 9 : shown.index("\n\n", shown.index("example:"))]
    assert shlex.split(lines.replace("\\\n", ""))[:2] == ["hpc-agent", verb]
    required = [flag.flag for flag in entry.flags if flag.required]
    places = [
        shown.index(f"\n  {flag.flag}") for flag in entry.flags if f"\n  {flag.flag}" in shown and not flag.required
    ]
    assert all(shown.index(f"\n  {flag}") < min(places, default=len(shown)) for flag in required)


def test_ways_to_ask_for_help():
    asked = hpc_agent("submit", "--cluster", "x", "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == hpc_agent("help", "submit").stdout == hpc_agent("help", "submit-flow").stdout
    assert hpc_agent("campaign", "status", "-h").stdout == hpc_agent("help", "campaign-status").stdout
    assert "campaign-status" in hpc_agent("campaign").stdout
    assert hpc_agent().stdout == hpc_agent("--help").stdout == hpc_agent("help").stdout
    assert hpc_agent("help", "completion").stdout == hpc_agent("completion", "--help").stdout
    wrong = hpc_agent("help", "sumbit")
    assert wrong.returncode == 1
    assert "'hpc-agent submit'" in json.loads(wrong.stdout)["remediation"]
    # after -- it is a value
    assert json.loads(hpc_agent("describe", "--", "--help").stdout)["field"] == "name"
