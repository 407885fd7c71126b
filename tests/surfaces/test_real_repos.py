"""Discovery over other people's repositories: source distributions from the package index, unpacked and never imported."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import tarfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

import pytest

from hpc_agent.experiment.grid.generators import TaskGenerator, make_source
from hpc_agent.experiment.grid.tasks_file_facts import read_tasks_file
from hpc_agent.experiment.reading.child_process import options_from_help
from hpc_agent.experiment.reading.discovery import (
    NO_EXECUTORS,
    executor_facts,
    find_executors,
    find_reducers,
    find_runs,
)
from hpc_agent.experiment.reading.executors import executor_at
from hpc_agent.experiment.reading.parameters import check_kwargs, flag_rows
from hpc_agent.experiment.reading.pushed_tree import python_sources
from hpc_agent.experiment.writing.tasks_file import render

pytestmark = [
    pytest.mark.slow(reason="source distributions are downloaded and their scripts run with --help"),
    pytest.mark.xdist_group("real_repos"),  # they are downloaded and read once
    pytest.mark.timeout(600),
]

SIMPLE = "application/vnd.pypi.simple.v1+json"
# The newest scikit-learn leaves its examples out of the distribution; this one has them.
PROJECTS = ("scikit-learn", "scikit-learn==1.0.2", "optuna")
# They have few scripts with options; these are other well-known ones whose --help needs nothing that is not installed here.
MORE = ("setuptools", "pygments", "docutils", "babel", "pyflakes", "coverage", "pytest", "numpy")
ENOUGH = 20
MOST_SCRIPTS = 40  # of one repo: numpy brings the hundred scripts of its build system


def _index() -> str:
    """The package index that pip is configured with, or pip's own default."""
    from pip._internal.models.index import PyPI

    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    return os.environ.get("PIP_INDEX_URL") or asked.stdout.strip() or PyPI.simple_url


def _get(url: str, accept: str = "*/*") -> bytes:
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": accept}), timeout=60, context=context
    ) as answer:
        return answer.read()


def _unpacked(name: str, folder: Path) -> Path:
    """The source distribution of ``name==version``, or the newest released one of ``name``."""
    from pip._vendor.packaging.version import Version

    name, _, pinned = name.partition("==")
    page = f"{_index().rstrip('/')}/{name}/"
    files = json.loads(_get(page, SIMPLE))["files"]
    found = {}
    for file in files:
        version = re.fullmatch(rf"{name.replace('-', '[-_.]')}-(\d[\w.]*)\.tar\.gz", file["filename"], re.IGNORECASE)
        if version and not file.get("yanked"):
            found[Version(version[1])] = file["url"]
    newest = Version(pinned) if pinned else max(version for version in found if not version.is_prerelease)
    archive = folder / f"{name}-{newest}.tar.gz"
    archive.write_bytes(_get(urljoin(page, found[newest])))
    with tarfile.open(archive) as tar:
        tar.extractall(folder / f"{name}-{newest}.d", filter="data")
    [root] = (folder / f"{name}-{newest}.d").iterdir()
    return root


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdists")
    try:
        with ThreadPoolExecutor(4) as pool:
            return dict(
                zip(PROJECTS + MORE, pool.map(lambda name: _unpacked(name, folder), PROJECTS + MORE), strict=True)
            )
    except (OSError, ImportError, ValueError, KeyError) as error:
        pytest.skip(f"the package index cannot be read here: {error}")


def test_nothing_crashes_and_nothing_is_imported(repos):
    before = set(sys.modules)
    for name in PROJECTS:
        executors, _ = find_executors(repos[name])
        everything, _ = find_executors(repos[name], [""])
        runs, notes = find_runs(repos[name])
        find_reducers(repos[name])
        assert executors or name == "optuna", name  # a library without scripts
        assert len(everything) >= len(executors)
        assert runs == []
        assert not [note for note in notes if "Traceback" in note]
    foreign = {module.partition(".")[0] for module in set(sys.modules) - before}
    assert not foreign & {"sklearn", "optuna", "benchmarks", "examples"}


@pytest.fixture(scope="module")
def with_flags(repos):
    """Scripts that have flags, all of which their source tells, by the root of their repo."""

    def scripts(root):
        sources = python_sources(root, [], (b"add_argument", b"add_option", b"click"))
        sources = [s for s in sources if not s.is_notebook and not NO_EXECUTORS.search(s.path)]
        read = [executor_facts(source, []) for source in sources[:MOST_SCRIPTS]]
        return [facts for facts in read if facts and facts.flags and facts.complete and not facts.subcommands]

    return {root: scripts(root) for root in repos.values()}


def test_tasks_can_be_planned_for_them(with_flags, tmp_path):
    planned = 0
    for root, scripts in with_flags.items():
        for facts in scripts:
            entry = executor_at(root, facts.path)
            numbers = [
                f
                for f in entry.flags
                if f.type in ("int", "float") and f.options and not f.choices and f.action == "store"
            ]
            if not numbers or entry.key != facts.path:
                continue
            required = {f.name: "x" for f in entry.flags if f.required and f.name != numbers[0].name}
            source = make_source(
                TaskGenerator("cartesian_product", {"axes": {numbers[0].name: [1, 2]}}), root, required
            )
            problems = [problem for kwargs in source.make() for problem in check_kwargs(entry, kwargs)]
            assert {problem.code for problem in problems} <= {"wrong_value", "output_parameter"}, (facts.path, problems)
            text = render(source, {entry.key: flag_rows(entry)}, {}, "python3")
            (tmp_path / "tasks.py").write_text(text)
            assert read_tasks_file(tmp_path / "tasks.py").flags == {entry.key: flag_rows(entry)}
            planned += 1
    assert planned >= 5


def test_the_flags_read_are_those_that_help_prints(with_flags):
    def compare(item):
        root, facts = item
        told, problem = options_from_help(root, [sys.executable, facts.path], 60, os.environ)
        read = {option for flag in facts.flags if not flag.hidden for option in flag.options}
        return f"{root.name}/{facts.path}", problem, sorted(read ^ told)

    found = [(root, facts) for root, scripts in with_flags.items() for facts in scripts]
    with ThreadPoolExecutor(4) as pool:
        compared = list(pool.map(compare, found))
    ran = {name: difference for name, problem, difference in compared if not problem}
    assert {name: difference for name, difference in ran.items() if difference} == {}
    assert len(ran) >= ENOUGH, sorted(ran)
    assert sum(name.startswith("scikit") for name in ran) >= 1, sorted(ran)
