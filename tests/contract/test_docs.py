"""What the docs say is run: every command, every snippet, every link."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import testbed
import yaml
from pages import BLOCKS, EVERY_PAGE, PAGES, REPOSITORY, ROOT, blocks_of, run_bash, run_console

from hpc_agent.cli import PROGRAMS
from hpc_agent.cli.globals import GLOBAL_FLAGS
from hpc_agent.contract.catalogue import envelope_schema, load_catalogue
from hpc_agent.contract.envelope import convert
from hpc_agent.errors import BY_CODE, EXIT_CODES
from hpc_agent.experiment.reading.pushed_tree import DEFAULT_IGNORES
from hpc_agent.infra.clusters import get_cluster
from hpc_agent.mcp_server import parser as mcp_parser
from hpc_agent.node.shared import task_environment
from hpc_agent.node.shared.run_folder import RunDocument
from hpc_agent.ops.introspect.inventory import ENVIRONMENT
from hpc_agent.ops.run.run_request import SubmitRequest

CONTRACT = ROOT / "docs/integrations/CONTRACT.md"
BOUNDARY = ROOT / "docs/reference/boundary-contract.md"
FIRST_COMMAND = "python3 -m venv .venv"
LANGUAGES = {"bash", "console", "python", "yaml", "json", "mermaid", "text", ""}
ANOTHER_PACKAGE = "pip install ./"
# Commands that are not run as part of their page, and why. Each is a block of one line.
ELSEWHERE = {
    FIRST_COMMAND: "has its own test below",
    "scripts/test": "is what runs this test",
    "python3 -m venv sweep-env": "takes the published package; the README's first command is the same from a checkout",
    "claude mcp add": "needs Claude Code; tests of the server speak the protocol with it",
    ANOTHER_PACKAGE: "is done by install(), into a folder of the test",
}
# Other blocks that are not run here, by page and the start of the first line, and why.
NOT_RUN = {
    ("docs/extending/scheduler.md", "scheduler_tinyq/"): "a tree of files",
    ("docs/reference/boundary-contract.md", ".git/ .hg/ .svn/ .claude/ .venv/"): "patterns; a test below has them",
    ("docs/reliability.md", "sudo testbed/up"): "needs root, and half an hour",
    ("docs/scaling.md", "python tests/simulator parts"): "takes half an hour; tests/unit/test_simulated_runs.py has it smaller",
    ("docs/workflows/campaign.md", "*/5 * * * *  ~/.venv/bin/hpc-campaign-driver"): "a line of a crontab",
    ("docs/workflows/early-stopping.md", "for epoch in $(seq 81); do"): "a program of another language, which the reader has",
    ("docs/workflows/early-stopping.md", "model = GradientBoostingClassifier(warm_start=True)"):
        "needs LightGBM and XGBoost; the page names the versions it was run with",
}  # fmt: skip


def blocks(language: str) -> list[tuple[Path, str]]:
    return [(block.page, block.text) for block in BLOCKS if block.language == language]


def named(pairs: list[tuple[Path, str]]) -> list:
    return [pytest.param(page, block, id=f"{page.relative_to(ROOT)}-{n}") for n, (page, block) in enumerate(pairs)]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=[str(page.relative_to(ROOT)) for page in EVERY_PAGE])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if target.startswith(REPOSITORY):
            assert (ROOT / target[len(REPOSITORY) :]).is_file(), f"{page.name} links to {target}"
        elif "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.fixture
def checkout(tmp_path, world_home):
    """A copy of the examples and plug-ins, ``hpc-agent`` of this checkout and a python3 with scikit-learn on the PATH."""
    leftovers = shutil.ignore_patterns("results", "runs", "build", "*.egg-info")
    for part in ("examples", "plugins"):
        shutil.copytree(ROOT / part, tmp_path / "copy" / part, ignore=leftovers, symlinks=True)
    tools = tmp_path / "tools"
    script(tools / "hpc-agent", f'exec {shlex.quote(sys.executable)} -m hpc_agent "$@"')
    script(tools / "python3", f'exec {shlex.quote(sys.executable)} "$@"')
    world_home.env["PATH"] = f"{tools}{os.pathsep}{world_home.env['PATH']}"
    world_home.env["HPC_PROGRESS"] = "none"
    return tmp_path / "copy"


def script(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def discovery(tmp_path: Path) -> testbed.Site:
    """clusters.yaml in which ``discovery`` is the test bed's SLURM, with a python3 that has scikit-learn."""
    site = testbed.make_site("slurm-ssh", tmp_path)
    script(site.scratch / "bin" / "python3", f'exec {shlex.quote(site.science_python)} "$@"')
    (site.scratch / "init.sh").write_text(f"PATH={site.scratch}/bin:$PATH; export PATH\n")
    entry = {**site.cluster, "shell_init": str(site.scratch / "init.sh"), "account": "research"}
    (tmp_path / "clusters.yaml").write_text(yaml.safe_dump({"discovery": entry}))
    return site


def install(package: str, checkout: Path, env: dict[str, str]) -> None:
    """Install a package of the checkout, entry points and all, beside this hpc-agent and not into it."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    folder = checkout / "packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *options, "--target", str(folder), package],
        cwd=checkout, env=env, check=True, timeout=120,
    )  # fmt: skip
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), env.get("PYTHONPATH")]))


def run_page(page: Path, checkout: Path, env: dict[str, str], values: Mapping[str, str] | None = None) -> None:
    """Run the commands of a page from top to bottom; ``values`` stand for what a reader has to fill in."""
    for block in blocks_of(page):
        for shown, value in (values or {}).items():
            block = replace(block, text=block.text.replace(shown, value))
        if block.text.startswith(ANOTHER_PACKAGE):
            install(block.text.rsplit(maxsplit=1)[-1], checkout, env)
        elif block.language == "bash" and not block.text.startswith(tuple(ELSEWHERE)):
            run_bash(block, checkout, env)
        elif block.language == "console":
            run_console(block, checkout, env)


COMMANDS = {page for page, _ in [*blocks("bash"), *blocks("console")]}
README = ROOT / "README.md"
YOUR_CLUSTER = ROOT / "docs/tutorials/your-cluster.md"
NEEDS_SLURM = {README, YOUR_CLUSTER}
# testbed/README.md shows how to work on the test bed itself, as root; the test command runs its scripts.
OTHERS = sorted(COMMANDS - NEEDS_SLURM - {ROOT / "testbed/README.md"})


@pytest.mark.local
@pytest.mark.slow(reason="the commands of a page one after the other, whole runs among them")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", OTHERS, ids=[str(page.relative_to(ROOT)) for page in OTHERS])
def test_the_commands_of_a_page(page, checkout, world_home):
    run_page(page, checkout, world_home.env)


@pytest.mark.slurm
@pytest.mark.slow(reason="the commands of a page one after the other, whole runs among them")
@pytest.mark.timeout(600)
def test_the_commands_of_the_readme(checkout, world_home, tmp_path):
    site = discovery(tmp_path)
    try:
        run_page(README, checkout, {**world_home.env, "HPC_CLUSTERS_CONFIG": str(tmp_path / "clusters.yaml")})
        compare_tables(checkout)
    finally:
        site.clean_up()


@pytest.mark.slurm
@pytest.mark.slow(reason="a cluster is found, checked, and used for a run")
@pytest.mark.timeout(600)
def test_the_commands_of_the_tutorial_for_a_cluster(checkout, world_home, tmp_path):
    """``mycluster`` is a Host of ~/.ssh/config, as the reader has it."""
    site = testbed.make_site("slurm-ssh", tmp_path)
    config = world_home.path / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    bed = Path(site.cluster["ssh_config"]).read_text(encoding="utf-8")
    config.write_text(
        bed.replace("Host slurm-testbed slurm-testbed-*", "Host mycluster slurm-testbed-*"), encoding="utf-8"
    )
    # ssh itself looks in the home folder of the password file
    script(tmp_path / "tools" / "ssh", f'exec {shutil.which("ssh")} -F {shlex.quote(str(config))} "$@"')
    try:
        values = {
            "/scratch/ada": str(site.scratch),
            "add mycluster": "add mycluster --scheduler slurm",
        }  # the bed has two
        run_page(YOUR_CLUSTER, checkout, world_home.env, values)
        [table] = (checkout / "pi/results").glob("*/table.csv")
        assert "pi_ci95" in table.read_text().splitlines()[0]
    finally:
        site.clean_up()


def compare_tables(checkout: Path) -> None:
    """The README runs one grid here and on the cluster."""
    tables = list((checkout / "examples/horizon_sweep/results").glob("*/table.csv"))
    assert len(tables) == 2
    here, there = ([row.split(",") for row in path.read_text().splitlines()] for path in tables)
    assert [row[:4] for row in here] == [row[:4] for row in there]
    # two interpreters with linear algebra of their own: on some processors their last digits differ
    for one, other in zip(here[1:], there[1:], strict=True):
        assert [float(cell) for cell in one[4:]] == pytest.approx([float(cell) for cell in other[4:]], rel=1e-9)


def test_no_command_is_left_out():
    pages = [(page, block) for page, block in blocks("bash") if page.parent.name != "testbed"]
    left_out = [block for _, block in pages if block.startswith(tuple(ELSEWHERE))]
    assert all(len(block.strip().splitlines()) == 1 for block in left_out), "a block that is not run has one line only"
    assert [start for start in ELSEWHERE if not any(block.startswith(start) for block in left_out)] == []


def test_every_block_is_run_or_is_in_the_table():
    assert {block.language for block in BLOCKS} <= LANGUAGES
    plain = [(block.name, block.first_line) for block in BLOCKS if block.language in ("text", "")]
    known = {
        place: [known for known in NOT_RUN if place[0] == known[0] and place[1].startswith(known[1])] for place in plain
    }
    assert all(len(found) == 1 for found in known.values()), known
    assert len(plain) == len(NOT_RUN)


@pytest.mark.local
@pytest.mark.timeout(600)
def test_the_first_command_of_the_readme(tmp_path, world_home):
    """Verbatim, on a copy of the checkout: from nothing to the demo's table."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    copy = tmp_path / "a fresh checkout"
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    [command] = [
        block for page, block in blocks("bash") if page == ROOT / "README.md" and block.startswith(FIRST_COMMAND)
    ]
    done = subprocess.run(
        ["bash", "-c", command], cwd=copy, env=world_home.env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    data = json.loads(done.stdout)["data"]
    assert sorted(row[data["columns"].index("alpha")] for row in data["rows"]) == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert Path(data["table_csv"]).is_file()


@pytest.mark.parametrize(("page", "block"), named(blocks("python")))
def test_python_snippets_run(page, block, tmp_path, world_home):
    (tmp_path / "repo").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path / "repo", env=world_home.env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "block"), named(blocks("yaml")))
def test_yaml_snippets_are_clusters(page, block, tmp_path):
    (tmp_path / "clusters.yaml").write_text(block)
    for name in yaml.safe_load(block):
        cluster = get_cluster(name, {"HPC_CLUSTERS_CONFIG": str(tmp_path / "clusters.yaml")}, tmp_path)
        assert cluster.name == name


@pytest.mark.parametrize(("page", "block"), named(blocks("json")))
def test_json_snippets_fit(page, block):
    """An envelope, a progress record, a file of another program that names ours, or the spec of a submission."""
    document = json.loads(block)
    if "ok" in document:
        jsonschema.validate(document, envelope_schema())
    elif "permissions" in document:
        assert all(
            re.fullmatch(r"Bash\(hpc-agent(:| )\*\)|mcp__hpc-agent(__\w+)?", rule)
            for rule in document["permissions"]["allow"]
        )
    elif "mcpServers" in document:
        [server] = document["mcpServers"].values()
        assert server["command"] == "hpc-agent"
        assert server["args"][0] == "mcp"
    elif "experiment_roots" in document:
        assert all(folder.startswith("/") for folder in document["experiment_roots"])
    elif "event" not in document:
        convert(document, SubmitRequest, "submit")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_verbs_and_flags_exist(page):
    catalogue = load_catalogue()
    verbs = {*catalogue, *(alias for entry in catalogue.values() for alias in entry.aliases)}
    verbs |= set(PROGRAMS)
    flags = {"--spec", "--help", "--version", *(flag.flag for flag in GLOBAL_FLAGS)}
    flags |= {flag.flag for entry in catalogue.values() for flag in entry.flags}
    flags |= {
        flag.flag.replace("--", "--no-") for entry in catalogue.values() for flag in entry.flags if flag.kind == "bool"
    }
    flags |= {word for action in mcp_parser()._actions for word in action.option_strings}
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"(?:^ *|[`|] ?)hpc-agent ([^`\n]*)", "\n".join(code_of(text)), re.MULTILINE):
        words = command.split(" #")[0].split()
        assert words[:1] == ["VERB"] or words[0] in verbs | flags, f"hpc-agent {command}"
    for flag in re.findall(r"`(--[a-z][a-z-]+)", text):
        assert flag in flags, flag


def code_of(text: str) -> list[str]:
    """Fenced blocks and spans of code."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def test_every_error_code_has_its_rule():
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| (yes|no) \| \S", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)
    told = {code: (int(exit_code), safe == "yes") for code, exit_code, safe in rows}
    assert told == {code: (EXIT_CODES[error.category], error.retry_safe) for code, error in BY_CODE.items()}


def test_every_variable_of_the_process_is_named():
    text = CONTRACT.read_text(encoding="utf-8")
    assert [name for name in ENVIRONMENT if f"| `{name}` |" not in text] == []


def test_every_variable_of_a_task_is_named():
    text = BOUNDARY.read_text(encoding="utf-8")
    env = task_environment.build(RunDocument(run_id="run", task_count=1), "/run", 0, {}, "/run/results/0", {})
    names = {*env, *task_environment.RESERVED, *task_environment.RESERVED_PREFIXES}
    assert sorted(name for name in names if not re.search(rf"`{name}[`=]", text)) == []


def test_every_default_ignore_is_named():
    assert set(DEFAULT_IGNORES.split()) == {
        word for block in blocks("") if block[0] == BOUNDARY for word in block[1].split()
    }


def test_the_guide_to_findings_has_every_code():
    """Each code that a validator may give stands in the table of docs/workflows/campaign.md, and no other."""
    package = ROOT / "src/hpc_agent"
    sources = "".join(
        (package / name).read_text(encoding="utf-8")
        for name in ("ops/run/checks.py", "ops/validate/validators.py", "ops/validate/dry_run_local.py",
                     "experiment/reading/parameters.py")
    )  # fmt: skip
    given = re.findall(r'(?:Finding\(\w+|finding\(|_problem\(executor),? ?(?:"?\w+"?, )?"([a-z_]+)"', sources)
    given += re.findall(r'code(?:, message)? = (?:"error", )?"([a-z_]+)"', sources)
    given += re.findall(r'return "([a-z_]+)", (?:message|f")', sources)
    given += [f"limit_{state}" for state in ("over", "warn", "unknown", "ok")]  # of headroom()
    page = (ROOT / "docs/workflows/campaign.md").read_text(encoding="utf-8").partition("## The findings")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert len(given) > 25
    assert set(given) - {"error", "warning", "info"} == told
