"""The suite itself, and the versions of its tools."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_tests_of_one_scheduler_stay_together(request):
    """They stop its daemons and fill its queue. pytest 9.2 renamed what xdist 3.8 sets, and nothing said so.

    Tests that share something else, a download for example, have a group of their own: each stays with its group.
    """
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("needs pytest -n N --dist loadgroup")
    grouped = {
        item.nodeid: marker.args[0]
        for item in request.session.items
        if (marker := item.get_closest_marker("xdist_group"))
    }
    apart = [nodeid for nodeid, group in grouped.items() if not nodeid.endswith(f"@{group}")]
    assert not apart, f"xdist ignores the groups of {len(apart)} of {len(grouped)} tests"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_tool_has_one_exact_version_and_no_place_of_its_own():
    """An unpinned pytest broke every test run once. scripts/lock writes the file anew."""
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+]*( ; .+)?", line)] == []
    names = {canonical(line.partition("==")[0]) for line in lines}
    project = (ROOT / "pyproject.toml").read_text()
    blocks = re.findall(r"^(?:dependencies|dev|tui) = \[(.*?)\n?\]$", project, re.MULTILINE | re.DOTALL)
    wanted = {canonical(name) for block in blocks for name in re.findall(r'"([A-Za-z0-9._-]+)[<>=]', block)}
    assert {"msgspec", "rich", "pytest", "mypy", "pandas"} <= wanted
    assert wanted - names == set()
