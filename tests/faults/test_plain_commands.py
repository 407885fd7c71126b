"""A packed shell command that needs no shell: it does what bash makes of it."""

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest
from dispatched_element import Element, until

from hpc_agent.node.job import execute, plain_command

SHOW = f"""#!{sys.executable} -S
import json, os, sys
own = {{name: value for name, value in os.environ.items() if name != "HPC_ATTEMPT"}}
print(json.dumps([sys.argv[1:], os.getcwd(), own, os.getsid(0) == os.getpid(), sys.stdin.read()], sort_keys=True))
"""


def made(root: Path, command: str, bash_env: str = "", **env: str) -> Element:
    element = Element(root)
    element.write(element.work / "bin" / "show", SHOW)
    (element.work / "bin" / "show").chmod(0o755)
    element.write(element.work / "noshebang", "echo a script of $0 $1\n")
    (element.work / "noshebang").chmod(0o755)
    element.write(element.work / "not-executable", "#!/bin/sh\n")
    (element.work / "bin" / "-").symlink_to("show")
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
    "a-dash": "- a",
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


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """Let this process have begun a task, and have asked nothing."""
    monkeypatch.setattr(plain_command, "_begun", ["x"])
    monkeypatch.setattr(plain_command, "_known", {})


def started(command: str, env: dict[str, str], cwd: Path) -> str:
    """How a command ends that is started as a task is, and what it prints."""
    reader, writer = os.pipe()
    try:
        ended, ends = execute._start(command, env, str(cwd), writer).ended, []
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8") as output:
        printed = output.read()
    until(lambda: ends.append(ended()) or ends[-1])
    return f"{ends[-1].status} {printed}"


def as_bash(folder: Path, command: str, **env: str) -> str:
    """What a command prints that bash need not start, or must; both do the same."""
    for name, text in {"bin/show": SHOW, "a/bin/show": SHOW, "b/only": SHOW}.items():
        Element.write(folder / name, text)
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder / "a"), **env}
    plain = started(command, env, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_command, "_LONGEST", 0)  # so that bash starts everything
        assert plain == started(command, env, folder)
    return plain


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("echo the first one of $0 $_\n", "the first one of"),  # only bash starts it, as a script
        ("#!/no/such/interpreter\n", "no/such/interpreter|required file not found"),
        ("", "^0 $"),
    ],
)
def test_the_first_program_on_the_path_is_started(tmp_path, before, expected):
    Element.write(tmp_path / "c" / "show", before)
    (tmp_path / "c" / "show").chmod(0o755)
    (tmp_path / "d" / "show").mkdir(parents=True)
    Element.write(tmp_path / "e" / "show", "not executable")
    path = f"{tmp_path}/d:{tmp_path}/e:{tmp_path}/c:{tmp_path}/bin:/usr/bin:/bin"
    assert re.search(expected, as_bash(tmp_path, "show a", PATH=path))


@pytest.mark.parametrize("path", ["~/bin:{}/bin", ":{}/bin", "bin:{}/a/bin", "{}/b:a/bin:", "{}/bin/", ""])
def test_a_path_of_odd_parts(tmp_path, path):
    (tmp_path / "only").symlink_to(tmp_path / "b" / "only")
    path = path.format(tmp_path) + (":/usr/bin:/bin" if path else "")
    for command in ("show a", "only a"):
        as_bash(tmp_path, command, PATH=path)


@pytest.mark.parametrize(
    "env",
    [
        {"SHELLOPTS": "braceexpand:hashall:interactive-comments:keyword"},
        {"SHELLOPTS": "braceexpand:hashall:interactive-comments:xtrace"},
        {"SHELLOPTS": "braceexpand:hashall:interactive-comments:verbose"},
        {"POSIXLY_CORRECT": "y"},
        {"SHLVL": "7", "PWD": "/proc/self/cwd", "OLDPWD": "/no/such/folder"},
        {"SHLVL": "no number", "OLDPWD": "/", "_": "/bin/true"},
        {"LD_PRELOAD": "/no/such/library.so"},
        {"LC_ALL": "xx_YY.UTF-8"},
        {"a-b": "1", "1x": "2", "BASH_FUNC_q%%": "() { echo q; }", "IFS": "a", "X": "a\nb"},
        {"SSH_CLIENT": "127.0.0.1 1 2", "SHLVL": "0"},
        {"SSH_CLIENT": "127.0.0.1 1 2", "SHLVL": "1"},
    ],
    ids=str,
)
def test_the_environment_is_that_of_a_program_of_bash(tmp_path, env):
    Element.write(tmp_path / "a" / ".bashrc", "umask 077; touch read\n")
    assert '"a' in as_bash(tmp_path, "show a=b", **env)


@pytest.mark.parametrize(
    ("bashrc", "is_plain"),
    [("case $- in *i*) ;; *) return;; esac\nexport A=1\n", True), ("export A=1\n", False), ("alias show=ls\n", True),
     ("show() { :; }\n", False), ("cd /\n", False), ("echo hello\n", False), ("echo hello >&2\n", False)],
)  # fmt: skip
def test_the_bashrc_that_bash_reads_in_a_job_that_was_submitted_over_ssh(tmp_path, bashrc, is_plain):
    (tmp_path / ".bashrc").write_text(bashrc)
    show = tmp_path / "bin" / "show"
    show.parent.mkdir()
    show.write_text("#!/bin/sh\n")
    show.chmod(0o755)
    env = {"PATH": f"{show.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "SSH_CLIENT": "::1 1 2", "SHLVL": "0"}
    assert (plain_command.plain_start("show a", env, str(tmp_path)) is not None) == is_plain


def test_a_variable_of_one_task_that_bash_knows(tmp_path):
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    as_bash(tmp_path, "show a")
    assert plain_command.plain_start("show a", env, str(tmp_path)) is not None
    for name in ("OPTIND", "PS1", "PS4", "UID", "SECONDS", "BASHOPTS"):
        assert plain_command.plain_start("show a", {**env, name: "5"}, str(tmp_path)) is None


UNSEEN = [
    ("echo warns >&2", "warns\n"),
    ("set -x", "+ show a\n"),
    ("trap 'echo the end' EXIT", "the end\n"),
    ("trap '' USR1", "show"),
    ("cd /", '"/", {'),
    ("set -k", '"k": "v"'),
    ("exec 2>/dev/null", "show"),
    ("exec 7</dev/null", "show"),
    ("umask 027", "show"),
    ("ulimit -Sc 0; ulimit -n 99", "show"),
    ("hash -p $ANOTHER show", "another"),
    ("exit 3", "768 "),
]


@pytest.mark.parametrize("is_of_site", [False, True])
@pytest.mark.parametrize(("bash_env", "expected"), UNSEEN)
def test_what_a_file_does_to_bash_unseen_holds(tmp_path, monkeypatch, bash_env, expected, is_of_site):
    monkeypatch.setattr(plain_command, "_is_of_site", lambda _: is_of_site)
    Element.write(tmp_path / "bash_env", bash_env + "\n")
    Element.write(tmp_path / "another", "#!/bin/sh\necho another\n")
    (tmp_path / "another").chmod(0o755)
    env = {"BASH_ENV": str(tmp_path / "bash_env"), "ANOTHER": str(tmp_path / "another")}
    assert expected in as_bash(tmp_path, "show a k=v" if "-k" in bash_env else "show a", **env)
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    assert plain_command.plain_start("show a", {**env, **path}, str(tmp_path)) is None


def test_a_file_of_the_user_is_read_in_each_task(tmp_path):
    Element.write(tmp_path / "bash_env", "[ $TASK != 2 ] || export MORE=1\n")
    for task in ("1", "2"):
        log = as_bash(tmp_path, "show a", BASH_ENV=str(tmp_path / "bash_env"), TASK=task)
        assert ('"MORE": "1"' in log) == (task == "2")


def test_a_file_of_the_site_that_leaves_bash_as_it_is_needs_no_bash(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_command, "_is_of_site", lambda _: True)
    Element.write(tmp_path / "bash_env", "module() { echo a function; }\nexport MODULES=1\n")
    env = {"BASH_ENV": str(tmp_path / "bash_env"), "MODULES": "1"}
    as_bash(tmp_path, "show a", **env)
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    assert plain_command.plain_start("show a", {**env, **path}, str(tmp_path)) is not None
    assert "a function" in as_bash(tmp_path, "module a", **env)


def test_whose_a_file_is(tmp_path):
    Element.write(tmp_path / "bash_env", "")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert not plain_command._is_of_site(str(tmp_path / "bash_env"))
    assert plain_command._is_of_site("/etc/passwd")
    assert plain_command._is_of_site(str(tmp_path / "link"))
    assert not plain_command._is_of_site("$HOME/bash_env")
    assert not plain_command._is_of_site("etc/passwd")


def test_a_program_that_goes_and_comes(tmp_path):
    as_bash(tmp_path, "show a")
    program, env = tmp_path / "bin" / "show", {"PATH": f"{tmp_path}/bin:{tmp_path}/a/bin:/usr/bin:/bin"}
    for mode, place in ((0o755, "bin"), (0o644, "a/bin"), (0o755, "bin")):
        program.chmod(mode)
        start = plain_command.plain_start("show a", env, str(tmp_path))
        assert start is not None
        assert start.program == f"{tmp_path}/{place}/show"
    program.unlink()
    (tmp_path / "a" / "bin" / "show").unlink()
    assert plain_command.plain_start("show a", env, str(tmp_path)) is None


def test_bash_is_asked_once(tmp_path, monkeypatch):
    asked = []
    ask = plain_command._ask
    monkeypatch.setattr(plain_command, "_ask", lambda words, *rest: asked.append(words) or ask(words, *rest))
    monkeypatch.setattr(plain_command, "_begun", [])
    env = {"PATH": os.environ["PATH"], "X": ""}
    assert plain_command.plain_start("true", env, str(tmp_path)) is None  # an element of one task does not ask
    for number in range(3):
        start = plain_command.plain_start("/bin/cat a  b", {**env, "X": str(number)}, str(tmp_path))
        assert start is not None
        assert (start.words, start.program, start.env["X"]) == (["/bin/cat", "a", "b"], "/bin/cat", str(number))
    assert len(asked) == 2
    for number in range(50):
        plain_command.plain_start("/bin/cat a  b", {**env, "SHLVL": str(number)}, str(tmp_path))
    assert len(asked) <= 2 * plain_command._MOST
