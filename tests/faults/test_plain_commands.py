"""A packed shell command that needs no shell: it does what bash makes of it."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from dispatched_element import Element

from hpc_agent.node.job import plain_command

SHOW = f"""#!{sys.executable} -S
import json, os, sys
own = {{name: value for name, value in os.environ.items() if name not in ("_", "SHLVL", "HPC_ATTEMPT")}}
print(json.dumps([sys.argv[1:], os.getcwd(), own, os.getsid(0) == os.getpid(), sys.stdin.read()], sort_keys=True))
"""


def made(root: Path, command: str, bash_env: str = "", **env: str) -> Element:
    element = Element(root)
    element.write(element.work / "bin" / "show", SHOW)
    (element.work / "bin" / "show").chmod(0o755)
    element.write(element.work / "noshebang", "echo a script of $0 $1\n")
    (element.work / "noshebang").chmod(0o755)
    element.write(element.work / "not-executable", "#!/bin/sh\n")
    if bash_env:
        element.write(root / "bash_env", bash_env)
        env["BASH_ENV"] = str(root / "bash_env")
    element.env.update(env, PATH=f"{element.work}/bin:{os.environ['PATH']}")
    return element.submit(command, 2)


def outcome(root: Path, command: str, bash_env: str = "", **env: str) -> tuple[str, str]:
    """How the element's second task ends, the first for which bash is asked, and its output, without the paths of this test."""
    element = made(root, command, bash_env, **env)
    element.run()
    record, log = element.record(1), element.log(1)
    found = json.dumps([record[key] for key in ("state", "cause", "exit_code", "signal", "message")])
    return found, log.replace(str(root), "ROOT")


COMMANDS = {
    "a-path": "bin/show one two=3 --four=a,b:c@d%e /x/../y",
    "on-the-path": "show  a   b",
    "no-such-program": "no-such-program a",
    "no-such-path": "./no/such/program a",
    "not-executable": "./not-executable",
    "a-folder": "./bin",
    "a-script-without-its-first-line": "./noshebang a",
    "fails": "/bin/false",
    "a-builtin": "exit 3",
    "a-keyword": "if show",
    "quotes": "show 'a b' \"c\"",
    "a-variable": "show $X",
    "a-tilde": "show ~",
    "a-brace": "show {a,b}",
    "a-glob": "show b*",
    "a-comment": "show a #b",
    "two-commands": "show a; show b",
    "an-assignment": "A=1 show a",
    "a-line-end": "show a\nshow b",
}
COMPLETE = frozenset(
    "a-path on-the-path a-script-without-its-first-line quotes a-variable a-tilde a-brace a-glob a-comment two-commands "
    "an-assignment a-line-end".split()
)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_does_what_bash_makes_of_it(tmp_path, name):
    ours = outcome(tmp_path / "run", COMMANDS[name])
    element = made(tmp_path / "bash", COMMANDS[name])
    runtime = element.work / ".hpc" / "_hpc_runtime" / "job" / "plain_command.py"
    runtime.chmod(runtime.stat().st_mode | stat.S_IWUSR)
    runtime.write_text(runtime.read_text().replace("_LONGEST = 4096", "_LONGEST = 0"))  # so that bash starts everything
    element.run()
    theirs = json.dumps([element.record(1)[key] for key in ("state", "cause", "exit_code", "signal", "message")])
    assert ours == (theirs, element.log(1).replace(str(tmp_path / "bash"), "ROOT"))
    assert ('"complete"' in theirs) == (name in COMPLETE), ours


@pytest.mark.parametrize(
    ("bash_env", "expected"),
    [
        ("show() { echo a function; }\n", "a function\n"),
        ("export -f() { :; }\n", None),  # bash says that this is no name, and goes on
        ("alias show=false\n", None),
        ("echo talks\n", "talks\n"),
        ("export MORE=1\n", '"MORE": "1"'),
        ("unset X\n", None),
    ],
)
def test_what_a_file_of_the_site_does_to_bash_holds(tmp_path, bash_env, expected):
    _, log = outcome(tmp_path, "show a", bash_env)
    assert (expected or '[["a"], ') in log


def test_a_function_that_the_job_exports_is_called(tmp_path):
    found = outcome(tmp_path, "show a", **{"BASH_FUNC_show%%": "() { echo a function $1; }"})
    assert found[1] == "a function a\n"


def test_bash_is_asked_once(tmp_path):
    program, log = tmp_path / "program", tmp_path / "asked"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "bash_env").write_text(f"echo x >>{log}\n")
    env = {"PATH": os.environ["PATH"], "BASH_ENV": str(tmp_path / "bash_env")}
    assert plain_command.words_of("x", env, str(tmp_path)) is None  # an element of one task does not ask
    for _ in range(3):
        assert plain_command.words_of(f"{program} a  b", env, str(tmp_path)) == [str(program), "a", "b"]
    assert log.read_text() == "x\n"
