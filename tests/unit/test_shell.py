"""Nothing that a user gives can become a command: every built line is run by a real shell."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.infra.transport import STARTED, one_line, quote, shell_text

text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=40)
nasty = st.sampled_from(
    [
        "$(touch hit)",
        "`touch hit`",
        "; touch hit",
        "'\"; touch hit; '",
        "\n touch hit\n",
        "-n",
        "*",
        "~",
        "!!",
        "!touch hit",
    ]
)
awkward = st.sampled_from(
    ["\\", "\\\\'", "%s%b\\n", "^a^b^", "\\0101", "\\c", "a\n!1\n", "$HOME", "\r\t", "{a,b}", "set x=y"]
)


@pytest.mark.parametrize("shell", ["bash", "dash", "tcsh", "fish"])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(text, nasty, awkward), min_size=1, max_size=4))
def test_words_arrive_as_they_are_through_any_login_shell(tmp_path_factory, shell, words):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    folder = tmp_path_factory.mktemp("shell")
    line = one_line(shell_text(["printf", "%s\\0", *words], None))
    assert line.isascii() and line.isprintable(), (
        "csh ends a word at a newline, and the bytes of other characters are its own"
    )
    done = subprocess.run([shell, "-c", line], capture_output=True, cwd=folder, timeout=10, check=True)
    assert done.stdout.decode() == f"{STARTED}\n" + "".join(f"{word}\0" for word in words)
    assert done.stderr.decode() == f"{STARTED}\n"
    assert not (folder / "hit").exists()


def test_a_long_program_is_one_line_that_csh_takes():
    source = "import sys\n# it's 100 % !done\n" * 500
    words = ["python3", "-c", source + "print(len(sys.argv[1]))", "a!b\nc\\"]
    for shell in filter(shutil.which, ("sh", "bash", "tcsh", "fish")):
        line = one_line(shell_text(words, None))
        done = subprocess.run([shell, "-c", line], capture_output=True, timeout=20, check=True)
        assert done.stdout.decode() == f"{STARTED}\n6\n"


@settings(max_examples=30, deadline=None)
@given(nasty)
def test_a_hostile_shell_init_is_a_file_name(tmp_path_factory, init):
    folder = tmp_path_factory.mktemp("shell")
    subprocess.run(["sh", "-c", shell_text(["true"], init)], capture_output=True, cwd=folder, timeout=10, check=False)
    assert not (folder / "hit").exists()


def test_nul_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote(["a\0b"])
