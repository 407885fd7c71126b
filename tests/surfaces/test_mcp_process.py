"""The server as a process: its frames, its start without the extra, work that is longer than a call, and its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import anyio
import pytest
from experiment import WRITE, make_repo
from mcp.shared.exceptions import MCPError
from mcp_client import over_stdio, process

MODE_NAMES = ("legacy", "auto", "2026-07-28")
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def call(number, name, arguments):
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "repo", [{"x": 1}], noisy__run="print('noise')")


@pytest.mark.parametrize("mode", MODE_NAMES)
def test_it_speaks_both_eras(mode, repo, world_home):
    async def run():
        async with over_stdio(process(repo, world_home.env), mode) as agent:
            context = await agent.data("load-context", None)
            assert context["experiment_dir"] == str(repo)
            if mode == "auto":  # the one that asks for them
                assert agent.client.server_capabilities.extensions == {"io.modelcontextprotocol/tasks": {}}
            return len((await agent.client.list_tools()).tools)

    assert anyio.run(run) <= 18


def test_standard_output_has_frames_only(repo, world_home):
    """A tasks.py that prints, an unknown method, a line that is no JSON: all that comes back are frames, in UTF-8."""
    (repo / ".hpc" / "tasks.py").write_text("print('noise')\n" + (repo / ".hpc" / "tasks.py").read_text())
    submit = {"cluster": "local", "executor": 'echo "$X" ü', "dry_run": True}
    sent = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        call(2, "submit", submit),
        {"jsonrpc": "2.0", "id": 3, "method": "no/such", "params": {}},
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "hpc_agent", "mcp", "--allow-submit"],
        cwd=repo, env=world_home.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    server.stdin.write(b"".join(json.dumps(frame).encode() + b"\n" for frame in sent) + b"no json\n")
    server.stdin.flush()
    frames = {}
    while not {1, 2, 3} <= frames.keys():
        frame = json.loads(server.stdout.readline())
        frames[frame.get("id")] = frame
    server.stdin.close()
    rest = server.stdout.read()
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in rest.splitlines())
    assert server.wait(20) == 0
    assert frames[2]["result"]["structuredContent"]["data"]["total_tasks"] == 1, frames[2]
    assert frames[3]["error"]["code"] == -32601


def test_without_the_extra_one_line_says_what_to_install(world_home):
    code = "import sys; sys.modules['mcp'] = None; from hpc_agent.cli import main; sys.exit(main(['mcp']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=world_home.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'hpc-agent[mcp]'" in done.stderr


@pytest.mark.parametrize("options", [["--budget-core-hours", "many"], ["--answer-within", "51"], ["--nope"]])
def test_a_wrong_option_is_told_in_one_line(options, world_home):
    words = [sys.executable, "-m", "hpc_agent", "mcp", *options]
    done = subprocess.run(words, env=world_home.env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hpc-agent mcp --help" in done.stderr


@pytest.mark.usefixtures("clusters_file")
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_long_work_answers_in_time_and_the_same_call_finds_it(repo, world_home, tmp_path):
    wait = f"for i in $(seq 1200); do [ -e {tmp_path}/go ] && break; sleep 0.1; done; "
    request = {"cluster": "testbed", "executor": wait + WRITE, "resources": {"mem_mb": 50}}

    async def run():
        server = process(repo, world_home.env, "--allow-submit", "--answer-within", "1")
        async with over_stdio(server) as agent:
            sent = await agent.data("submit", request)
            answer = await agent.call("monitor-flow", {"run_id": sent["run_id"]})
            assert answer["work"]["state"] == "running", answer
            assert answer["next"] == {"tool": "monitor-flow", "arguments": {"run_id": sent["run_id"]}}
            seconds = [answer["work"]["seconds"]]
            while "work" in (answer := await agent.follow(answer)):
                seconds.append(answer["work"]["seconds"])
                (tmp_path / "go").touch()
            assert seconds == sorted(seconds)  # the same watch, and not a new one with each call
            assert len(seconds) > 1
            assert answer["data"]["lifecycle_state"] == "complete"
            assert answer["next"]["tool"] == "aggregate"
            uris = [str(resource.uri) for resource in (await agent.client.list_resources()).resources]
            assert uris == [f"run://{sent['run_id']}/report", f"run://{sent['run_id']}/journal"]
            journal = (await agent.client.read_resource(uris[1])).contents[0]
            assert json.loads(journal.text.splitlines()[0])["event"] == "submitting"
            page = None
            while page is None:
                try:
                    page = (await agent.client.read_resource(f"{uris[0]}?experiment_dir={repo}")).contents[0]
                except MCPError as error:
                    if "read the same resource again" not in str(error):
                        raise
            assert page.mime_type == "text/html"
            assert sent["run_id"] in page.text

    anyio.run(run)
    assert not (repo / "results").exists(), "a page that is read is no file of the repo"


@pytest.mark.parametrize("end", ["stdin", "SIGTERM"])
def test_when_the_client_goes_the_children_of_calls_end(end, repo, world_home, tmp_path):
    """A tasks.py that never ends is being read when the client leaves."""
    text = f"import os, time\nopen({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\ntime.sleep(60)\n"
    (repo / ".hpc" / "tasks.py").write_text(text)
    server = subprocess.Popen(
        [sys.executable, "-m", "hpc_agent", "mcp", "--allow-submit"],
        cwd=repo, env=world_home.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    frames = [HELLO, call(2, "submit", {"cluster": "local", "executor": "true"})]
    server.stdin.write(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))
    server.stdin.flush()
    pids, until = [], time.monotonic() + 60
    while not pids:
        assert time.monotonic() < until
        time.sleep(0.1)
        pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    server.stdin.close() if end == "stdin" else server.terminate()
    assert server.wait(20) == (0 if end == "stdin" else 128 + 15)
    until = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < until, f"still there: {pids}"
        time.sleep(0.1)
