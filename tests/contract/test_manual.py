"""The pages of the manual, and what the built wheel installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpc_agent.cli.help import FIRST
from hpc_agent.cli.manual import _escaped, manual_pages
from hpc_agent.contract.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "share" / "man" / "man1"
CATALOGUE = load_catalogue()


def mandoc(*arguments: str) -> str:
    if not shutil.which("mandoc"):
        if os.environ.get("HPC_REQUIRE_SCHEDULERS") == "1":
            pytest.fail("mandoc is missing; testbed/tools-up installs it", pytrace=False)
        pytest.skip("mandoc is missing; testbed/tools-up installs it")
    done = subprocess.run(["mandoc", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
    return re.sub(r".\x08", "", done.stdout)


def test_every_verb_has_a_page_without_an_error():
    names = {path.name for path in PAGES.iterdir()}
    assert names == {"hpc-agent.1", *(f"hpc-agent-{verb}.1" for verb in CATALOGUE)}
    mandoc("-Tlint", "-W", "error", *(str(path) for path in sorted(PAGES.iterdir())))


@pytest.mark.parametrize("verb", ["submit", "aggregate", "recall", "capabilities"])
def test_a_page_says_what_the_help_says(verb):
    shown = " ".join(mandoc("-Tascii", str(PAGES / f"hpc-agent-{verb}.1")).split())
    for flag in CATALOGUE[verb].flags:
        assert flag.flag in shown or f"--[no-]{flag.flag[2:]}" in shown
        assert " ".join(flag.help.split()).replace("``", "") in shown
    for code in CATALOGUE[verb].errors:
        assert f"{code} (exit " in shown
    assert f"hpc-agent {verb}" in shown


def test_text_is_never_a_request_of_roff(tmp_path):
    odd = r".so /etc/passwd 'quoted' back\slash \fB -- --x \n(.x %s"
    text = manual_pages({}, {})["hpc-agent.1"].replace(
        ".SH FILES", f"{_escaped(odd)}\n.br\n{_escaped(odd[1:])}\n.SH FILES"
    )
    (tmp_path / "odd.1").write_text(text)
    shown = " ".join(mandoc("-Tascii", str(tmp_path / "odd.1")).split())
    assert f"{odd} {odd[1:]}" in shown


def test_the_wheel_installs_everything(tmp_path):
    """Pages, completions, schemas, templates, commands: each file of the package, and those outside it."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "*.pyc")
    for name in ("src", "share"):
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    source = checkout / "src"
    package = {str(path.relative_to(source)) for path in (source / "hpc_agent").rglob("*") if path.is_file()}
    assert package - names == set()
    data = f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share"
    wanted = {f"{data}/man/man1/{path.name}" for path in PAGES.iterdir()}
    wanted |= {
        f"{data}/bash-completion/completions/hpc-agent.bash",
        f"{data}/zsh/site-functions/_hpc-agent",
        f"{data}/fish/vendor_completions.d/hpc-agent.fish",
    }
    assert wanted - names == set()


def test_the_lines_of_the_overview_fit_a_manual_of_80_columns():
    """Lines that are kept as they are stand seven letters to the right, and a terminal would break longer ones."""
    assert max(map(len, FIRST.splitlines())) <= 73
