"""The site of the documentation: both builders make it without a warning, and every page can be reached."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys

import pytest
import yaml
from pages import ROOT

DOCS = ROOT / "docs"


def nav() -> list[str]:
    """The pages in the table of contents."""

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [page for part in parts for page in pages(part)]

    return pages(settings()["nav"])


def settings():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("builder", ["mkdocs", "properdocs"])
def test_a_builder_finds_nothing_to_warn_of(builder, tmp_path):
    """``strict`` counts links and anchors that lead nowhere, and pages that nothing leads to."""
    done = subprocess.run(
        [sys.executable, "-m", builder, "build", "--strict", "-f", str(ROOT / "mkdocs.yml"), "-d", str(tmp_path / "site")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"\bWARNING\b|\bERROR\b", said), said
    for page in nav():
        html = (tmp_path / "site" / re.sub(r"(README|index)\.md$", "index.md", page)).with_suffix(".html")
        assert html.is_file(), page


def test_the_site_needs_no_plugin():
    assert "plugins" not in settings()
    assert "hooks" not in settings()


def test_every_page_is_in_the_table_of_contents():
    """Or in an index page that is: that of the verbs links to a page a verb."""
    listed = nav()
    assert len(listed) == len(set(listed))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    verbs = set(fnmatch.filter(pages, "primitives/*.md"))
    assert pages - set(listed) == verbs - {"primitives/README.md"}
    index = (DOCS / "primitives/README.md").read_text(encoding="utf-8")
    linked = {f"primitives/{name}" for name in re.findall(r"\]\(([\w.-]+\.md)\)", index)}
    assert linked == verbs - {"primitives/README.md"}


def test_nothing_is_loaded_from_another_host():
    theme = settings()["theme"]
    assert theme["font"] is False
    outside = [
        page.name
        for page in DOCS.rglob("*.md")
        if re.search(r"!\[[^\]]*\]\(https?:|<script", page.read_text(encoding="utf-8"))
    ]
    assert outside == []


def test_every_error_code_has_its_causes():
    from hpc_agent.contract.error_causes import CAUSES
    from hpc_agent.errors import BY_CODE

    assert set(CAUSES) == set(BY_CODE)
    assert [code for code, causes in CAUSES.items() if not causes] == []
    page = (DOCS / "reference/troubleshooting.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(BY_CODE)
