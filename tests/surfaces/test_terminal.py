"""What a person at a terminal sees: real terminals of some size, on the local scheduler."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from experiment import listed, make_repo, submit, write
from screen import HPC_AGENT, Screen, hide_rich

pytestmark = [
    pytest.mark.usefixtures("clusters_file"),
    pytest.mark.parametrize("site", ["local"], indirect=True),
]
TASKS = [{"x": x, "model": "gradient_boosting" if x % 2 else "ridge"} for x in range(6)]
PROGRAM = """
import json, os, sys
x = int(os.environ["X"])
print("\\x1b[31mworking\\x1b[0m on", x, os.environ["MODEL"])
if x in (1, 3):
    raise KeyError("horizon")
if x == 5:
    raise MemoryError("Unable to allocate 8 GiB")
json.dump({"rmse": 1 / (x + 1), "mae": x * 1.5}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
"""
EXECUTOR = "python3 go.py"
QUESTION = "[y/N]"
IN_ORDER = ("--cluster", "testbed", "--executor")


@pytest.fixture
def repo(tmp_path, clusters_file):
    return make_repo(tmp_path / "repo", TASKS, **{"go.py": PROGRAM})


@pytest.fixture
def on_screen(world_home):
    """``on_screen("status", cwd=repo, columns=60)``: the screen of a command that was started."""
    started = []

    def start(*words, cwd, columns=80, lines=70, env=(), **options):
        screen = Screen([*HPC_AGENT, *words], cwd, {**world_home.env, **dict(env)}, columns, lines, **options)
        started.append(screen)
        return screen

    yield start
    for screen in started:
        screen.close()


@pytest.fixture
def seen(on_screen):
    """``seen("status", cwd=repo)``: exit code and lines of a command that has ended."""

    def call(*words, **options):
        screen = on_screen(*words, **options)
        code = screen.finish()
        assert screen.cursor_is_shown
        return code, screen.lines()

    return call


@pytest.fixture
def ended(run_cli, repo):
    """The id of a run of which half failed."""
    run_id = submit(run_cli, repo, EXECUTOR)["run_id"]
    run_cli("monitor-flow", cwd=repo)
    return run_id


def none_is_json(lines):
    return not any(line.lstrip().startswith('{"') for line in lines)


def test_a_plan_is_shown_and_no_submits_nothing(on_screen, run_cli, repo):
    screen = on_screen("submit", *IN_ORDER, EXECUTOR, cwd=repo)
    screen.wait_for(QUESTION)
    text = screen.text()
    run_id = re.match(r"\S+(?=: 6 tasks on testbed, planned)", text)[0]
    assert "6 tasks in 1 array" in text
    assert "74 MiB (default_mem_mb plus 15%" in text
    assert f"Submit {run_id}? [y/N]" in text
    screen.type("n\n")
    assert screen.finish() == 1
    assert screen.lines()[-1] == "Nothing was submitted."
    assert run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"] == []


def test_yes_submits_once_and_the_same_again_is_not_asked(on_screen, seen, run_cli, repo):
    screen = on_screen("submit", *IN_ORDER, EXECUTOR, cwd=repo)
    screen.wait_for(QUESTION)
    screen.type("perhaps\n")
    screen.wait_for("Please answer y or n:")
    screen.type("y\n")
    assert screen.finish() == 0
    lines = screen.lines()
    (run,) = run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"]
    assert f"{run['run_id']}: 6 tasks on testbed, submitted" in lines
    assert lines[-2:] == ["Next:", f"  hpc-agent monitor-flow --run-id {run['run_id']}"]
    assert sum(line.startswith("plan ") for line in lines) == 1, "the plan is not shown twice"
    code, again = seen("submit", *IN_ORDER, EXECUTOR, cwd=repo)
    assert code == 0
    assert "submitted before" in again[0]
    assert QUESTION not in "".join(again)


def test_yes_as_a_flag_asks_nothing(seen, run_cli, repo):
    code, lines = seen("submit", *IN_ORDER, EXECUTOR, "--yes", cwd=repo)
    assert (code, QUESTION in "".join(lines)) == (0, False)
    assert len(run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"]) == 1


def test_control_c_at_the_question_is_answered_at_once(on_screen, run_cli, repo):
    screen = on_screen("submit", *IN_ORDER, EXECUTOR, cwd=repo)
    screen.wait_for(QUESTION)
    screen.type("\x03")
    assert screen.finish(20) == 1
    text = screen.text()
    assert text.count("Error:") == 1
    assert "Nothing was submitted." in text
    assert "Traceback" not in text
    assert run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"] == []


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_nothing_is_asked_without_a_terminal(on_screen, run_cli, repo, tmp_path, stream):
    with open(tmp_path / "file", "w+") as file:
        screen = on_screen("submit", *IN_ORDER, EXECUTOR, cwd=repo, **{stream: file.fileno()})
        assert screen.finish() == 0
        file.seek(0)
        assert (file.read().count("\n") == 1) == (stream == "stdout")
    assert QUESTION not in screen.text()
    assert len(run_cli("list-in-flight", "--all-states", cwd=repo).data["runs"]) == 1


def test_json_on_a_terminal_asks_nothing_and_is_one_line(on_screen, repo):
    screen = on_screen("submit", *IN_ORDER, EXECUTOR, "--dry-run", "--json", cwd=repo)
    assert screen.finish() == 0
    assert '{"data":{"cluster":"testbed"' in screen.text()
    screen = on_screen("submit", *IN_ORDER, EXECUTOR, "--field", "run_id", cwd=repo)
    assert screen.finish() == 0
    assert re.fullmatch(r"repo-[0-9a-f]{8}", screen.text())


def test_the_views_of_a_run_that_failed(seen, ended, repo):
    code, lines = seen("status", cwd=repo)
    assert code == 0
    assert lines[0] == f"{ended} on testbed: failed"
    assert "complete      3" in lines
    assert "failed        3  1,3,5" in lines
    assert lines[-2:] == ["Next:", f"  hpc-agent monitor-flow --run-id {ended} --auto-resubmit"]

    code, lines = seen("failures", cwd=repo)
    text = "\n".join(lines)
    assert f"{ended}: 3 tasks failed" in lines
    assert "  cause     code_error (certain)" in lines
    assert "  evidence  KeyError: 'horizon' (log)" in lines
    assert f"    hpc-agent submit --cluster testbed --executor '{EXECUTOR}'" in lines
    assert f"    hpc-agent resubmit --run-id {ended} --classes out_of_memory" in lines
    assert text.index("The program failed, 2 tasks") < text.index("Out of memory, 1 task")

    code, lines = seen("aggregate", cwd=repo)
    assert lines[0] == f"{ended}: 3 of 6 tasks in the table"
    at = lines.index("3 rows, lowest mae first")
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["0", "2", "4"]
    assert len({line.index(".") for line in lines[at + 3 : at + 5]}) == 1, "points stand below each other"

    code, lines = seen("logs", "--task-id", "1", cwd=repo)
    assert lines[0] == "task 1 failed, code error (exit code 1) on " + os.uname().nodename
    assert lines[1] == "working on 1 gradient_boosting"
    assert "KeyError: 'horizon'" in lines

    code, lines = seen("list-in-flight", "--all-states", cwd=repo)
    assert lines[0].split() == ["run", "cluster", "state", "complete", "failed", "submitted"]
    assert lines[1].split()[:5] == [ended, "testbed", "failed", "3/6", "3"]


def test_what_would_be_submitted_again_is_asked(on_screen, run_cli, ended, repo):
    screen = on_screen("resubmit", cwd=repo)
    screen.wait_for(QUESTION)
    text = screen.text()
    assert f"{ended}: 1 task to submit again" in text
    assert re.search(r"^5 +1 out of memory +1 core, \d+ MiB", text, re.MULTILINE)
    assert "code error in 2 tasks (1,3)" in text
    screen.type("n\n")
    assert screen.finish() == 1
    assert run_cli("status", cwd=repo).data["resubmitted"] == 0


def test_poor_terminals_show_the_same(seen, on_screen, ended, repo, tmp_path, world_home):
    without_rich = os.pathsep.join(filter(None, [hide_rich(tmp_path), world_home.env.get("PYTHONPATH")]))
    whole = seen("status", cwd=repo)[1]
    for name, value in {"NO_COLOR": "1", "TERM": "dumb", "LANG": "C", "PYTHONPATH": without_rich}.items():
        screen = on_screen("status", cwd=repo, env={name: value})
        assert screen.finish() == 0
        bar = {"LANG": "="}.get(name, "━")
        assert screen.lines() == [line.replace("━", bar) for line in whole], name
        assert b"\x1b[3" not in screen.raw or name == "LANG", f"{name}: no colour"
        assert name != "LANG" or screen.raw.isascii()


def test_what_is_copied_is_whole_at_any_width(on_screen, ended, repo):
    for columns in (60, 80, 120):
        for words in (["status"], ["failures"], ["list-in-flight", "--all-states"], ["load-context"], ["aggregate"]):
            screen = on_screen(*words, cwd=repo, columns=columns)
            assert screen.finish() == 0
            assert none_is_json(screen.lines())
            assert ended in screen.joined(), words
            # a command has the whole id, also where the terminal wraps it
            assert set(re.findall(r"hpc-agent [a-z-]+ --run-id (\S+)", screen.joined())) <= {ended}


def test_an_error_is_what_happened_and_what_to_type(seen, repo):
    code, lines = seen("status", "--run-id", "none", cwd=repo, columns=120)
    assert code == 1
    assert lines[0].startswith("Error:   no run 'none' is known")
    assert sum(line.startswith(("Error:", "Remedy:")) for line in lines) == 2
    code, lines = seen("sumbit", cwd=repo)
    assert code == 1
    assert lines == [
        "Error:   unknown command 'sumbit' (spec_invalid)",
        "Remedy:  Did you mean 'hpc-agent submit'? Run 'hpc-agent --help' to see every",
        "         command.",
    ]


@pytest.fixture
def slow_run(run_cli, repo):
    """A run of which one task goes on until ``gate`` is there."""
    write(repo / ".hpc" / "tasks.py", listed([{"x": x} for x in range(3)]))
    gate = repo.parent / "gate"
    executor = f'if [ "$X" = 2 ]; then until [ -e {gate} ]; do sleep 0.1; done; fi'
    return submit(run_cli, repo, f"sh -c '{executor}'")["run_id"], gate


@pytest.mark.parametrize("rich", [True, False])
def test_progress_vanishes(on_screen, slow_run, repo, tmp_path, world_home, rich):
    run_id, gate = slow_run
    env = {}
    if not rich:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [hide_rich(tmp_path), world_home.env.get("PYTHONPATH")]))
    screen = on_screen("monitor-flow", cwd=repo, env=env)
    screen.wait_for("2/3")
    gate.touch()
    assert screen.finish() == 0
    assert screen.lines()[0] == f"{run_id}: complete"
    assert screen.cursor_is_shown


@pytest.mark.parametrize("rich", [True, False])
def test_watch_has_one_picture_also_after_control_c(on_screen, slow_run, repo, tmp_path, world_home, rich):
    run_id, gate = slow_run
    env = {}
    if not rich:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [hide_rich(tmp_path), world_home.env.get("PYTHONPATH")]))
    screen = on_screen("watch", cwd=repo, env=env)
    screen.wait_for("2/3 complete")
    assert run_id in screen.lines()[0], "no stray line above the picture"
    screen.type("\x03")
    assert screen.finish() == 1
    text = screen.text()
    assert text.count(f"{run_id} on testbed") == 1
    assert text.count("Error:") == 1
    assert screen.cursor_is_shown
    gate.touch()
    screen = on_screen("watch", cwd=repo, env=env)
    assert screen.finish() == 0
    text = screen.text()
    assert run_id in screen.lines()[0]
    assert text.count(f"{run_id} on testbed") == 1
    assert "3/3 complete" in text


def test_control_c_while_it_waits_leaves_a_clean_terminal(on_screen, slow_run, repo):
    _, gate = slow_run
    screen = on_screen("monitor-flow", cwd=repo)
    screen.wait_for("2/3")
    screen.type("\x03")
    assert screen.finish() == 1
    gate.touch()
    assert screen.cursor_is_shown
    lines = [line for line in screen.lines() if line]
    assert lines == [
        "Error:   stopped by Control-C (interrupted)",
        "Remedy:  Run the same 'hpc-agent' command again: every step is safe to repeat.",
    ]


def test_lists_of_a_machine(seen, repo, clusters_file):
    code, lines = seen("clusters-list", cwd=repo)
    assert code == 0
    assert lines[0].split() == ["cluster", "scheduler", "host", "state"]
    assert any(line.split() == ["testbed", "local", "this", "machine", "ready"] for line in lines)
    assert none_is_json(seen("capabilities", cwd=repo, lines=400)[1])
    text = "\n".join(seen("describe", "status", cwd=repo)[1])
    assert "--run-id" in text
    assert none_is_json(text.splitlines())


def test_a_pipe_never_loads_rich(run_cli, repo):
    done = run_cli("list-in-flight", cwd=repo, env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = set(re.findall(r"\|\s+(\S+)$", done.stderr, re.MULTILINE))
    assert not {name for name in imported if name.split(".")[0] == "rich" or ".view.terminal" in name}
    assert Path(repo).is_dir()
