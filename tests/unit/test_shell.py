"""Nothing that a user gives can become a command: every built line is run by a real shell."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_agent.infra.transport import quote, shell_text

text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=40)
nasty = st.sampled_from(
    ["$(touch hit)", "`touch hit`", "; touch hit", "'\"; touch hit; '", "\n touch hit\n", "-n", "*", "~", "!!"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(text, nasty), min_size=1, max_size=4))
def test_words_arrive_as_they_are(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("shell")
    line = "exec /bin/sh -c " + quote([shell_text(["printf", "%s\\0", *words], None)])
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=folder, timeout=10, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words
    assert not (folder / "hit").exists()


@settings(max_examples=30, deadline=None)
@given(nasty)
def test_a_hostile_shell_init_is_a_file_name(tmp_path_factory, init):
    folder = tmp_path_factory.mktemp("shell")
    subprocess.run(["sh", "-c", shell_text(["true"], init)], capture_output=True, cwd=folder, timeout=10, check=False)
    assert not (folder / "hit").exists()


def test_nul_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        quote(["a\0b"])
