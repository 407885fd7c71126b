"""The files for Claude Code: only documented fields, listings that fit, one source for plugin and setup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import hpc_agent
from hpc_agent.ops.agents.assets import FOLDERS, package_files

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = Path(hpc_agent.__file__).parent / "slash_commands"
# Fields that Claude Code documents; those of skills are the subset that other programs know too.
SKILL = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
COMMAND = {"description", "when_to_use", "argument-hint", "arguments", "disable-model-invocation", "user-invocable",
           "allowed-tools", "disallowed-tools", "model", "effort", "context", "agent", "background", "hooks", "shell",
           "metadata", "license", "compatibility"}  # fmt: skip
# In a plugin permissionMode, mcpServers and hooks of an agent are ignored.
AGENT = {"name", "description", "tools", "disallowedTools", "model", "maxTurns", "skills", "memory", "background", "effort",
         "isolation", "color", "initialPrompt"}  # fmt: skip
MANIFEST = {"name", "$schema", "displayName", "version", "description", "author", "homepage", "repository", "license",
            "keywords", "metadata", "defaultEnabled", "skills", "commands", "agents", "workflows", "hooks", "mcpServers",
            "outputStyles", "lspServers", "experimental", "userConfig", "channels", "dependencies"}  # fmt: skip
LISTING_LIMIT = 3000
TEXTS = sorted(PLUGIN.rglob("*.md"))
WORKFLOWS = {"submit": "submit", "status": "monitor", "aggregate": "aggregate", "campaign": "campaign"}


def parts(path: Path) -> tuple[dict, str]:
    """Front matter and body of a text."""
    empty, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), body


def known_fields(path: Path) -> set[str]:
    return {"commands": COMMAND, "agents": AGENT}.get(path.parent.name, SKILL)


@pytest.mark.parametrize("path", TEXTS, ids=[str(path.relative_to(PLUGIN)) for path in TEXTS])
def test_a_text_has_documented_fields_and_is_short(path):
    fields, body = parts(path)
    assert set(fields) <= known_fields(path)
    assert all(isinstance(value, (str, int)) for value in fields.values())
    assert fields["description"].endswith(".")
    assert len(body.splitlines()) < 120
    assert body.count("```") % 2 == 0
    if path.name == "SKILL.md":
        assert fields["name"] == path.parent.name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"])
        assert len(fields["description"]) <= 1024
    if path.parent.name == "agents":
        assert fields["name"] == path.stem


def test_a_field_that_nobody_documents_is_noticed(tmp_path):
    """The check can fail."""
    (tmp_path / "commands").mkdir()
    text = tmp_path / "commands/x.md"
    text.write_text('---\ndescription: "x."\nallowed_tools: "Bash"\n---\nx\n')
    with pytest.raises(AssertionError):
        test_a_text_has_documented_fields_and_is_short(text)


def test_all_listings_together_leave_room():
    shown = [str(fields.get(name, "")) for path in TEXTS for fields in [parts(path)[0]]
             for name in ("name", "description", "when_to_use", "argument-hint")]  # fmt: skip
    total = sum(map(len, shown))
    print(f"listing texts: {total} characters")
    assert total <= LISTING_LIMIT


def test_every_promised_text_is_there():
    names = {path.relative_to(PLUGIN).as_posix() for path in TEXTS}
    skills = (
        "hpc-submit hpc-status hpc-aggregate hpc-campaign hpc-classify-axis hpc-wrap-entry-point hpc-build-executor"
    )
    assert names == {
        *(f"commands/{name}-hpc.md" for name in WORKFLOWS.values()),
        *(f"skills/{name}/SKILL.md" for name in skills.split()),
        "agents/hpc-worker.md",
    }


def test_skills_that_texts_name_are_there():
    for path in TEXTS:
        for name in re.findall(r"skill (hpc-[a-z-]+)", path.read_text(encoding="utf-8")):
            assert (PLUGIN / "skills" / name / "SKILL.md").is_file(), (path, name)


def test_the_playbook_walks_in_the_order_of_dependencies():
    playbook = (PLUGIN / "commands/submit-hpc.md").read_text(encoding="utf-8").partition("## Escalation playbook")[2]
    steps = re.findall(r"^\| (\d) \| ([a-z ]+)", playbook, re.MULTILINE)
    assert [(number, step.strip()) for number, step in steps] == [
        ("1", "entry point"), ("2", "executor"), ("3", "axes"), ("4", "axis classification"), ("5", "resources"),
        ("6", "cluster")]  # fmt: skip


def test_step_6b_reads_the_marker():
    text = (PLUGIN / "commands/submit-hpc.md").read_text(encoding="utf-8")
    step = text.partition("- 6b.")[2].partition("- 6c.")[0]
    assert "hpc-agent check-preflight <cluster>" in step
    assert "hpc-agent setup --cluster <cluster>" in step


def test_the_guide_explains_every_finding():
    """The codes of docs/workflows/campaign.md, which a test of the docs compares with the code."""

    def codes(text: str) -> set[str]:
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        return {code for row in rows for code in re.findall(r"`(\w+)`", row)}

    page = (ROOT / "docs/workflows/campaign.md").read_text(encoding="utf-8").partition("## The findings")[2]
    guide = (PLUGIN / "commands/campaign-hpc.md").read_text(encoding="utf-8").partition("## What the findings")[2]
    assert codes(guide) == codes(page)


def test_manifest_and_marketplace():
    manifest = json.loads((PLUGIN / ".claude-plugin/plugin.json").read_bytes())
    assert set(manifest) <= MANIFEST
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", manifest["name"])
    assert manifest["version"] == hpc_agent.__version__
    market = json.loads((ROOT / ".claude-plugin/marketplace.json").read_bytes())
    assert set(market) == {"name", "owner", "plugins"}
    [plugin] = market["plugins"]
    assert set(plugin) == {"name", "source"}
    assert plugin["name"] == manifest["name"]
    assert plugin["source"].startswith("./")
    assert (ROOT / plugin["source"]).resolve() == PLUGIN.resolve()


def test_the_plugin_and_setup_share_their_files():
    shared = {path.relative_to(PLUGIN).as_posix() for path in PLUGIN.rglob("*") if path.is_file()}
    shared = {name for name in shared if name.split("/")[0] in FOLDERS and "__pycache__" not in name}
    assert shared - set(package_files()) == {"hooks/hooks.json"}  # setup leaves the user's own settings alone
    assert set(package_files()) <= shared


def test_the_hook_of_the_plugin_is_there():
    hooks = json.loads((PLUGIN / "hooks/hooks.json").read_bytes())["hooks"]
    assert set(hooks) == {"PreToolUse"}
    [[command]] = [[hook["command"] for hook in entry["hooks"]] for entry in hooks["PreToolUse"]]
    [name] = re.findall(r"\$\{CLAUDE_PLUGIN_ROOT\}/([\w./-]+)", command)
    assert (PLUGIN / name).is_file()


@pytest.mark.timeout(200)
def test_the_files_are_in_the_wheel(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, copy / name)
    code = "from setuptools.build_meta import build_wheel; build_wheel('out')"
    (copy / "out").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True, timeout=180)
    [wheel] = (copy / "out").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"hpc_agent/slash_commands/{name}" for name in package_files()}
    wanted |= {f"hpc_agent/slash_commands/{name}" for name in (
        ".claude-plugin/plugin.json", "hooks/hooks.json", "project-settings.json")}  # fmt: skip
    assert wanted - names == set()


@pytest.mark.skipif(not shutil.which("claude"), reason="the program claude is not installed")
def test_claude_finds_the_plugin_valid(tmp_path):
    done = subprocess.run(
        ["claude", "plugin", "validate", str(PLUGIN), "--strict"],
        env={"HOME": str(tmp_path), "PATH": str(Path(shutil.which("claude")).parent) + ":/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
