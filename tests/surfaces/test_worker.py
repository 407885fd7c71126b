"""``run``: a worker is started exactly so, and every way in which it may end is told apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from claude import KEY, NO_LOGIN, REPORT, SAID, make_claude
from experiment import make_repo

from hpc_agent.errors import WorkerFailed
from hpc_agent.ops.agents import claude_process
from hpc_agent.ops.agents.prompt import report_schema, worker_prompt

WORKFLOWS = ("submit", "status", "aggregate", "campaign")


@pytest.fixture
def claude(tmp_path):
    return make_claude(tmp_path / "claude-bin")


@pytest.fixture
def call(run_cli, world_home, claude, tmp_path):
    """``run`` in a repo, in an environment of four variables and a key."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "hpc-agent").symlink_to(sys.executable)
    world_home.env.clear()
    world_home.env.update(HOME=str(world_home.path), PATH=f"{claude.folder}{os.pathsep}{tools}", ANTHROPIC_API_KEY=KEY)

    def run(*flags: str, **options):
        return run_cli("run", *flags, cwd=repo, **options)

    run.repo = repo
    return run


def test_it_is_started_exactly_so(call, claude, world_home):
    done = call("--workflow", "submit", "--cluster", "local", "--goal", "a 'sweep'", "--confirmed").data
    facts = {"experiment_dir": str(call.repo), "goal": "a 'sweep'", "cluster": "local", "confirmed": True}
    started = claude.started
    assert started["argv"] == [
        "--bare", "-p", worker_prompt("submit", facts),
        "--output-format", "json",
        "--json-schema", json.dumps(report_schema(), separators=(",", ":")),
        "--allowedTools", "Bash(hpc-agent *)",
        "--permission-mode", "dontAsk",
        "--tools", "Bash",
        "--max-turns", "40",
        "--max-budget-usd", "2",
        "--no-session-persistence",
        "--strict-mcp-config",
    ]  # fmt: skip
    assert started["env"] == {**world_home.env, "HPC_AGENT_WORKER": "1", "HPC_PROGRESS": "none"}
    assert (started["cwd"], started["stdin"], started["group"]) == (str(call.repo), "", True)
    assert done["result"] == {**REPORT["result"], "ambiguities": []}
    assert (done["decisions"], done["anomalies"]) == (REPORT["decisions"], [])
    assert (done["num_turns"], done["total_cost_usd"], done["prompt"]) == (4, 0.05, None)


def test_limits_model_and_settings_are_passed_on(call, claude, tmp_path):
    settings = tmp_path / "s.json"
    settings.write_text('{"apiKeyHelper": "/bin/key"}')
    call("--workflow", "status", "--max-turns", "7", "--max-budget-usd", "0.25", "--model", "haiku", "--settings", str(settings),
         env={"ANTHROPIC_API_KEY": ""})  # fmt: skip
    argv = claude.started["argv"]
    given = {flag: argv[argv.index(flag) + 1] for flag in ("--max-turns", "--max-budget-usd", "--model", "--settings")}
    assert given == {"--max-turns": "7", "--max-budget-usd": "0.25", "--model": "haiku", "--settings": str(settings)}


def test_a_session_around_it_is_not_passed_on_and_hpc_agent_is_on_the_path(call, claude, tmp_path):
    around = {"CLAUDECODE": "1", "CLAUDE_CODE_ENTRYPOINT": "cli", "PATH": str(claude.folder), "SSH_AUTH_SOCK": "/s"}
    call("--workflow", "status", env=around)
    env = claude.started["env"]
    assert not {"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT"} & set(env)
    assert env["SSH_AUTH_SOCK"] == "/s"
    assert env["PATH"] == f"{claude.folder}{os.pathsep}{Path(sys.executable).parent}"


@pytest.mark.parametrize(
    "env",
    [{"CLAUDE_CODE_USE_BEDROCK": "1"}, {"CLAUDE_CODE_USE_VERTEX": "true"}, {"CLAUDE_CODE_USE_FOUNDRY": "1"}],
)
def test_a_cloud_provider_will_do(call, claude, env):
    assert call("--workflow", "status", env={"ANTHROPIC_API_KEY": "", **env}).data["result"]["status"] == "done"


@pytest.mark.parametrize(
    "env",
    [{}, {"ANTHROPIC_API_KEY": " "}, {"CLAUDE_CODE_USE_BEDROCK": "0"}, {"CLAUDE_CODE_OAUTH_TOKEN": "t" * 20},
     {"ANTHROPIC_AUTH_TOKEN": "t" * 20}],
)  # fmt: skip
def test_without_credentials_it_fails_at_once(call, claude, env):
    failed = call("--workflow", "status", env={"ANTHROPIC_API_KEY": "", **env})
    assert (failed.code, failed.envelope["error_code"]) == (1, "worker_auth_unavailable")
    assert "export ANTHROPIC_API_KEY=sk-ant-..." in failed.envelope["remediation"]
    assert "worker authentication unavailable" in failed.envelope["message"]
    assert not claude.was_started


@pytest.mark.parametrize("text", ["{", "[]", None])
def test_settings_that_cannot_be_read(call, claude, tmp_path, text):
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text)
    failed = call("--workflow", "status", "--settings", str(path))
    assert (failed.envelope["error_code"], failed.envelope["field"], claude.was_started) == (
        "spec_invalid",
        "settings",
        False,
    )


def test_without_claude(call, tmp_path):
    failed = call("--workflow", "status", env={"PATH": str(tmp_path)})
    assert (failed.code, failed.envelope["error_code"]) == (1, "worker_not_installed")
    assert "--inline" in failed.envelope["remediation"]


def limit(subtype: str) -> dict:
    return {"out": json.dumps({**SAID, "subtype": subtype, "is_error": True, "result": ""}), "code": 1}


@pytest.mark.parametrize(
    ("part", "code", "outcome"),
    [
        ({"out": NO_LOGIN, "code": 1}, "worker_auth_unavailable", None),
        ({"out": json.dumps({**SAID, "is_error": True, "result": f"Invalid API key {KEY} · Fix it"}), "code": 1},
         "worker_auth_unavailable", None),
        ({"err": "authentication_error: invalid x-api-key", "code": 1}, "worker_auth_unavailable", None),
        (limit("error_max_turns"), "worker_failed", "turn_limit"),
        (limit("error_max_budget_usd"), "worker_failed", "budget"),
        (limit("error_during_execution"), "worker_failed", "exit"),
        ({"out": json.dumps([{"type": "system"}, {**SAID, "subtype": "error_max_turns", "is_error": True}]), "code": 1},
         "worker_failed", "turn_limit"),
        ({"signal": signal.SIGTERM}, "worker_failed", "terminated"),
        ({"code": 143}, "worker_failed", "terminated"),
        ({"signal": signal.SIGKILL}, "worker_failed", "killed"),
        ({"code": 137}, "worker_failed", "killed"),
        ({"out": "Traceback", "err": f"key {KEY}", "code": 3}, "worker_failed", "exit"),
        ({"out": "no json at all"}, "worker_failed", "garbage"),
        ({"out": ""}, "worker_failed", "garbage"),
        ({"out": "[" * 100_000}, "worker_failed", "garbage"),
        ({"out": "null"}, "worker_failed", "garbage"),
        ({"out": '{"is_error": true, "session_id": ' + "[" * 600 + "]" * 600 + "}"}, "worker_failed", "garbage"),
        ({"out": json.dumps({**SAID, "is_error": True, "session_id": "half \ud83d"})}, "worker_failed", "exit"),
        ({"out": json.dumps(SAID)}, "worker_failed", "garbage"),
        ({"out": json.dumps({**SAID, "structured_output": {"result": "fine"}})}, "worker_failed", "garbage"),
        ({"out": json.dumps({**SAID, "structured_output": {**REPORT, "result": {"status": "great", "summary": ""}}})},
         "worker_failed", "garbage"),
    ],
)  # fmt: skip
def test_each_end_is_told_apart(call, claude, part, code, outcome):
    claude.plays(**part)
    failed = call("--workflow", "status")
    assert (failed.code, failed.envelope["error_code"]) == (1, code)
    assert failed.envelope.get("details", {}).get("outcome") == outcome
    assert KEY not in json.dumps(failed.envelope) + failed.stderr


def test_a_report_with_odd_values_is_taken(call, claude):
    """Half of an emoji that was cut in two, and numbers that are none: the work was done all the same."""
    report = {**REPORT, "anomalies": ["cut \ud83d here"], "decisions": [{"field": "f", "value": 10**30, "why": ""}]}
    claude.reports(report, num_turns=True, total_cost_usd=10**400)
    done = call("--workflow", "status").data
    assert (done["anomalies"], done["decisions"][0]["value"]) == (["cut ? here"], 10**30)
    assert (done["num_turns"], done["total_cost_usd"]) == (None, None)


def test_a_hang_is_ended_with_all_that_it_started(call, claude):
    claude.plays(hangs=True, child=True)
    failed = call("--workflow", "status", "--timeout-sec", "3")
    assert failed.envelope["details"]["outcome"] == "timeout"
    wait_until_gone(int((claude.folder / "child.pid").read_text()))


def test_a_hang_that_is_deaf_is_killed(claude, monkeypatch, tmp_path):
    monkeypatch.setattr(claude_process, "GRACE_SEC", 0.5)
    claude.plays(hangs=True, deaf=True, child=True)
    answer = claude_process.call([str(claude.folder / "claude")], tmp_path, dict(os.environ), 3)
    assert (answer.code, answer.timed_out) == (-signal.SIGKILL, True)
    wait_until_gone(int((claude.folder / "child.pid").read_text()))
    with pytest.raises(WorkerFailed, match="time limit"):
        claude_process.read_report(answer, {})


def test_a_shell_that_is_left_behind_is_not_waited_for(call, claude):
    """It holds the output open; the worker itself has ended."""
    claude.plays(out=json.dumps({**SAID, "structured_output": REPORT}), child=True)
    assert call("--workflow", "status", timeout=60).data["result"]["status"] == "done"
    wait_until_gone(int((claude.folder / "child.pid").read_text()))


def test_a_signal_to_the_command_ends_the_worker(call, claude, world_home):
    claude.plays(hangs=True)
    argv = [sys.executable, "-m", "hpc_agent", "run", "--workflow", "status"]
    command = subprocess.Popen(argv, cwd=call.repo, env=world_home.env, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (claude.folder / "ready").exists() and time.monotonic() < end:
        time.sleep(0.05)
    command.terminate()
    answer = json.loads(command.communicate(timeout=60)[0])
    assert (command.returncode, answer["error_code"]) == (1, "interrupted")
    wait_until_gone(claude.started["pid"])


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_secrets_never_reach_the_answer(call, claude, tmp_path):
    secret, other = "aws/secret+of=the test", "another-secret-of-settings"
    settings = tmp_path / "s.json"
    settings.write_text(json.dumps({"env": {"MY_TOKEN": other}}))
    report = json.loads(json.dumps(REPORT))
    report["anomalies"] = [f"the key is {KEY}", f"and {secret} and {other} and sk-ant-somebody-elses-key"]
    report["decisions"] = [{"field": "f", "value": {KEY: [secret]}, "why": ""}]
    claude.reports(report)
    done = call("--workflow", "status", "--settings", str(settings), env={"AWS_SECRET_ACCESS_KEY": secret})
    shown = json.dumps(done.envelope) + done.stderr
    assert done.data["anomalies"] == ["the key is ***", "and *** and *** and ***"]
    assert not [text for text in (KEY, secret, other, "sk-ant-") if text in shown]


def test_a_secret_is_hidden_however_it_is_written(call, claude):
    odd, token, url = "päss\\word-of-mine", "glpat-0123456789", "postgres://ada:hunter22@db/x"
    texts = [odd, repr(odd), json.dumps(odd), json.dumps(odd, ensure_ascii=False)]
    claude.plays(out=" ".join(texts), err=f"{token} {url}", code=3)
    failed = call("--workflow", "status", env={"DB_PASS": odd, "GITLAB_PAT": token, "DATABASE_URL": url})
    details = failed.envelope["details"]
    assert details["stdout"] == """*** '***' "***" "***\""""
    assert details["stderr"] == "*** postgres://***@db/x"


def test_a_secret_is_not_cut_out_of_sight(call, claude):
    """The end of the output is shown: a secret at the cut, or one that JSON writes otherwise, is not shown in part."""
    odd = 'quote"and\\backslash-secret'
    claude.plays(out=json.dumps({"note": odd}), err=KEY + "x" * (1000 - len(KEY) // 2), code=3)
    failed = call("--workflow", "status", env={"MY_PASSWORD": odd})
    shown = json.dumps(failed.envelope["details"])
    assert KEY[-10:] not in shown
    assert "backslash-secret" not in shown


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_inline_returns_the_prompt_and_starts_nothing(call, claude, workflow):
    done = call("--workflow", workflow, "--run-id", "r-1", "--inline", env={"ANTHROPIC_API_KEY": "", "PATH": ""}).data
    assert not claude.was_started
    assert done["result"] is None
    assert f'"workflow": "{workflow}"' in done["prompt"]
    assert '"run_id": "r-1"' in done["prompt"]
    assert "One command a call" in done["prompt"]
    assert "allowed-tools" not in done["prompt"]
    assert done["report_schema"]["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(done["report_schema"])
    jsonschema.validate(REPORT, done["report_schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"result": "done"}, done["report_schema"])


@pytest.mark.parametrize("path", [{}, {"PATH": ""}, {"PATH": "/nowhere"}])
def test_a_worker_finds_this_hpc_agent(path, monkeypatch):
    monkeypatch.setattr(claude_process.shutil, "which", lambda *_, **__: None)
    *_, last = claude_process.environment(path, True)["PATH"].split(os.pathsep)
    assert Path(last) == Path(sys.executable).parent


def test_without_a_yes_a_worker_can_submit_nothing(call, claude, run_cli):
    """Whatever the model does: hpc-agent itself refuses."""
    call("--workflow", "submit")
    env = claude.started["env"]
    assert env["HPC_AGENT_WORKER"] == "plan"
    env = {**env, "PATH": os.environ["PATH"]}
    words = ("submit", "--cluster", "local", "--executor", "true")
    refused = run_cli(*words, cwd=call.repo, env=env)
    assert (refused.code, refused.envelope["error_code"]) == (1, "precondition_failed")
    assert "--confirmed" in refused.envelope["remediation"]
    assert run_cli("resubmit", cwd=call.repo, env=env).envelope["error_code"] == "precondition_failed"
    assert run_cli(*words, "--dry-run", cwd=call.repo, env=env).data["total_tasks"] == 1


@pytest.mark.parametrize("kind", ["1", "plan"])
def test_a_worker_starts_no_worker(call, claude, kind):
    failed = call("--workflow", "status", env={"HPC_AGENT_WORKER": kind})
    assert (failed.envelope["error_code"], claude.was_started) == ("precondition_failed", False)
