"""Each example of ``describe`` gives the same through the protocol as on the command line."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import anyio
import pytest
from experiment import WRITE, submit, watch
from mcp_client import in_memory, session_in

from hpc_agent.cli import main
from hpc_agent.mcp_server.verbs import writes
from hpc_agent.ops.run.invoke import catalogue

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "horizon_sweep"
TASKS = "[{'executor': e, 'horizon': h} for e in ('ml_gbm', 'ml_ridge') for h in (1, 5, 25)]"
TRIES = 8
# Verbs that are not compared, each with its reason.
LEFT_OUT = {
    "run": "starts an agent",
    "demo": "runs 25 tasks: its verbs are compared one by one",
}
# Verbs of which each call makes something new, by design: the fields of their results are compared.
NEW_EACH_TIME = ("reproduce-run",)
# What names the moment of a call, or is drawn by lot.
MOMENTS = frozenset((
    "elapsed_seconds", "checked_at", "last_look", "seconds", "at", "ticks", "request_id", "age_sec", "took_sec", "created_at",
))  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?|\b\d+(\.\d+)? (s|ms|min|h)\b|\b\d{2}:\d{2}:\d{2}\b")


def steady(value):
    """A result without its moments."""
    if isinstance(value, dict):
        return {key: steady(item) for key, item in value.items() if key not in MOMENTS}
    if isinstance(value, list):
        return [steady(item) for item in value]
    if isinstance(value, float):
        return "a number"
    return TIME.sub("a time", value) if isinstance(value, str) else value


def is_same(verb, expected, answer):
    """True for the same result, or the same error."""
    if not expected["ok"]:
        names = ("error_code", "message", "remediation", "field")
        found = answer.get("error", {})
        return [steady(expected.get(name)) for name in names] == [steady(found.get(name)) for name in names]
    if "more" in answer or verb in NEW_EACH_TIME:
        return answer["data"].keys() == expected["data"].keys()
    return "data" in answer and steady(expected["data"]) == steady(answer["data"])


@pytest.fixture
def repo(tmp_path, run_cli, clusters_file):
    """The example with a complete run; the cluster of the examples, ``local``, is the test's own."""
    folder = tmp_path / "horizon_sweep"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".hpc", "results", "runs", "__pycache__"))
    tasks = f"TASKS = {TASKS}\n\ndef total():\n    return 6\n\ndef resolve(task_id):\n    return TASKS[task_id]\n"
    (folder / ".hpc").mkdir()
    (folder / ".hpc" / "tasks.py").write_text(tasks)
    submit(run_cli, folder, WRITE.replace("$X", "$HORIZON"))
    assert watch(run_cli, folder)["lifecycle_state"] == "complete"
    clusters_file.write_text(clusters_file.read_text().replace("testbed:", "local:") + clusters_file.read_text())
    return folder


@pytest.mark.parametrize("site", ["local"], indirect=True)
@pytest.mark.timeout(600)
def test_an_example_gives_the_same_as_on_the_command_line(repo, world_home, tmp_path, monkeypatch):
    for name in ("HPC_JOURNAL_DIR", "HPC_CLUSTERS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in world_home.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(repo)

    def on_the_command_line(verb, example):
        (tmp_path / "spec.json").write_text(json.dumps(example))
        printed = io.StringIO()
        printed.buffer = io.BytesIO()
        with contextlib.redirect_stdout(printed):
            full = [] if any(flag.flag == "--full" for flag in catalogue()[verb].flags) else ["--full"]
            main([verb, "--spec", str(tmp_path / "spec.json"), "--json", *full])
        return json.loads(printed.buffer.getvalue())

    different = []

    async def compare(agent):
        for verb, entry in sorted(catalogue().items(), key=lambda item: (writes(item[1]), item[0])):
            if verb in LEFT_OUT:
                continue
            if writes(entry):  # the first call may change something, the second does not
                on_the_command_line(verb, dict(entry.example))
            for _ in range(TRIES):  # a run that was begun goes on between the two calls, until it has ended
                expected = on_the_command_line(verb, dict(entry.example))
                answer = await agent.call("call", {"verb": verb, "arguments": dict(entry.example)})
                while "work" in answer:
                    answer = await agent.follow(answer)
                if is_same(verb, expected, answer):
                    break
                await anyio.sleep(1)
            else:
                different.append((verb, expected, answer))

    in_memory(session_in(repo, world_home.env, allow_submit=True), compare)
    assert not different, [verb for verb, *_ in different] + [json.dumps(different, indent=1)[:6000]]
