"""The page of ``report`` in Chromium: open to everybody, without a network, with a table that sorts, filters and turns pages."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from experiment import make_repo, submit, watch

from hpc_agent.campaign.journal import Ask, CampaignJournal, Submitted, Tell
from hpc_agent.campaign.manifest import Manifest, Metric, Parameter, write_manifest
from hpc_agent.node.shared import binning
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.view.report import numbers
from hpc_agent.view.report.data import Gap, ReportData
from hpc_agent.view.report.page import render
from hpc_agent.world import World

HOSTILE = "<img src=x onerror=document.title='hit'>"
EXECUTOR = "bash run.sh"
RUN = """echo "$NAME"
[ "$X-$DEPTH-$SEED" != 4-0-1 ] || { echo "ValueError: no value for $NAME" >&2; exit 1; }
loss=$(awk "BEGIN { print ($X - 2) ^ 2 + $DEPTH + $SEED / 10 }")
printf '{"val_loss": %s, "%s": %s}' "$loss" "$NAME" "$X" >"$HPC_RESULT_DIR/metrics.json"
"""
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def chromium():
    """Chromium, driven by playwright."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        message = "Chromium is not installed: sudo testbed/tools-up"
        (pytest.fail if os.environ.get("HPC_REQUIRE_SCHEDULERS") == "1" else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """``opened(path, width)``: a tab with the page. At the end: no message, no error, no request but for the file."""
    tabs, heard = [], []

    def open_(path, width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        tab = context.new_page()
        tabs.append(context)
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: heard.append(request.url) if not request.url.startswith("file:") else None)
        tab.goto(Path(path).as_uri())
        return tab

    yield open_
    for context in tabs:
        context.close()
    assert heard == []


@pytest.fixture
def run_page(site, clusters_file, run_cli, tmp_path):
    """The page of a run of 60 tasks, one of which fails, and the answer of ``report``."""
    points = [{"x": n // 4, "name": HOSTILE, "depth": n // 2 % 2, "seed": n % 2} for n in range(60)]
    repo = make_repo(tmp_path / "repo", points, **{"run.sh": RUN})
    submit(run_cli, repo, EXECUTOR, "--pack", "20")
    watch(run_cli, repo)
    return run_cli("report", cwd=repo).data


def columns(tab):
    return [name.split(" ")[0] for name in tab.locator("#table thead th").all_inner_texts()]


def first_column(tab):
    return tab.locator("#table tbody tr td:first-child").all_inner_texts()


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_page_of_a_run(run_page, opened):
    answer = run_page
    assert answer["headline"].startswith(
        "59 of 60 tasks are complete, 1 failed. Lowest val_loss: 0.05 at depth = 0, x = 2."
    )
    assert answer["next_step"] == f"hpc-agent failures --run-id {answer['run_id']}"
    assert answer["bytes"] == Path(answer["report"]).stat().st_size < 500_000
    from axe_playwright_python.sync_playwright import Axe

    for width in WIDTHS:
        for scheme in ("light", "dark"):
            tab = opened(answer["report"], width, color_scheme=scheme)
            assert Axe().run(tab).response["violations"] == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"
            assert tab.evaluate("document.querySelectorAll('*').length") <= 5_000
            assert tab.title().endswith("hpc-agent report"), "no text of the run has run"
            assert tab.locator("img").count() == 0
    tab = opened(answer["report"])
    _the_table_sorts_filters_and_turns_pages(tab)
    _other_charts_are_chosen(tab)
    _numbers_are_written_as_by_the_maker(tab)
    plain = opened(answer["report"], 390, java_script_enabled=False)
    assert plain.locator("#table tbody tr").count() == 25
    assert plain.locator("svg:visible").count() >= 6
    assert plain.locator(".controls:visible").count() == 0, "nothing is shown that only a script could answer"
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 794, "height": 1123})  # A4
    assert tab.evaluate("document.documentElement.scrollWidth") <= 794
    assert tab.locator("nav").is_hidden()
    assert tab.locator("#table").is_visible()


def _the_table_sorts_filters_and_turns_pages(tab):
    assert columns(tab)[:3] == ["val_loss", "depth", "x"]
    assert tab.locator("#rows-told").inner_text() == "Rows 1 to 25 of 30"
    assert first_column(tab)[0] == "0.050 ± 0.071"
    assert tab.locator("#table th").first.get_attribute("aria-sort") == "ascending"
    tab.get_by_role("button", name="Next rows").press("Enter")
    assert len(first_column(tab)) == 5
    assert first_column(tab)[-1].startswith("145.0")
    for _ in range(2):
        tab.locator("#table th button").nth(2).press("Enter")
    assert tab.locator("#table th").nth(2).get_attribute("aria-sort") == "descending"
    assert tab.locator("#table tbody tr").first.locator("td").nth(2).inner_text() == "14"
    tab.locator("#filter").fill("x<4 val_loss>0.5")
    assert sorted(tab.locator("#table tbody td:nth-child(3)").all_inner_texts()) == ["0", "0", "1", "1", "2", "3", "3"]
    tab.locator("#filter").fill("nothing-such")
    assert tab.locator("#rows-told").inner_text() == "No row fits this filter"
    tab.locator("#filter").fill("")


def _other_charts_are_chosen(tab):
    before = tab.locator("#explore-each svg").first.get_attribute("aria-label")
    tab.locator("#explore-metric").select_option(label=HOSTILE)
    after = tab.locator("#explore-each svg").first.get_attribute("aria-label")
    assert before.startswith("val_loss against x")
    assert after.startswith(HOSTILE)


def _numbers_are_written_as_by_the_maker(tab):
    rng = random.Random(1)
    values = [rng.choice((-1, 1)) * 10 ** rng.uniform(-9, 9) for _ in range(300)] + [
        0.0,
        1.0,
        1.0625,
        0.0625,
        99999.5,
        1e5,
        123456.0,
    ]
    for digits, keep in ((4, False), (4, True), (6, False)):
        shown = tab.evaluate("([v, d, k]) => v.map(x => hpcAgentReport.number(x, d, k))", [values, digits, keep])
        assert shown == [numbers.number(value, digits, keep) for value in values]
    pairs = [(value, abs(value) * 10 ** rng.uniform(-6, 1)) for value in values]
    shown = tab.evaluate("(pairs) => pairs.map(p => hpcAgentReport.spread(...p))", pairs)
    assert shown == [numbers.spread(*pair) for pair in pairs]


def test_the_page_of_a_campaign(run_cli, tmp_path, opened):
    """Failed trials, two objectives, pairs of parameters to choose: from manifest and journal alone."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}])
    space = {
        "rate": Parameter(type="float", low=1e-4, high=1.0, log=True),
        "depth": Parameter(type="int", low=1, high=3),
    }
    metrics = [Metric(name="accuracy", direction="maximize"), Metric(name="mb", direction="minimize")]
    write_manifest(RepoLayout(repo), Manifest(campaign_id="study", goal="How deep?", space=space, metrics=metrics))
    journal = CampaignJournal(World(cwd=repo), RepoLayout(repo), "study")
    for n in range(20):
        params = {"rate": 10 ** -(n % 4 + n / 100), "depth": 1 + n % 3}
        journal.append(Ask(trial=n, iteration=n // 10, params=params, origin="random"))
        journal.append(Submitted(iteration=n // 10, run_id=f"study-{n}", trials=[n]))
        failed = n == 7
        values = {} if failed else {"accuracy": 1 - abs(n - 12) / 20, "mb": float(n % 5)}
        journal.append(
            Tell(trial=n, state="failed" if failed else "complete", values=values, seconds=60.0, why="exit code 1")
        )
    answer = run_cli("report", "--campaign", "study", cwd=repo).data
    assert (
        answer["headline"]
        == "19 of 20 trials are complete, 1 failed. Highest accuracy: 1 at depth = 1, rate = 0.7586. "
        "3 trials on the Pareto front."
    )
    assert answer["run_id"] is None
    from axe_playwright_python.sync_playwright import Axe

    tab = opened(answer["report"], 390)
    assert Axe().run(tab).response["violations"] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator("#history svg:visible").first.get_attribute("aria-label").endswith("best so far: 1 (trial 12)")
    assert "Pareto front" in tab.locator("#history").inner_text()
    assert tab.locator("#explore-pair svg").count() == 2, "a heat map, and lines"
    refused = run_cli("report", "--campaign", "study", "--metric", "loss", cwd=repo)
    assert (refused.envelope["error_code"], refused.envelope["field"]) == ("spec_invalid", "metric")
    assert "accuracy, mb" in refused.envelope["remediation"]


def test_hostile_names_and_values_open_without_harm(opened, tmp_path):
    """Names that are markup, long, right to left; values of any size and length: no alert, no error, no violation."""
    from axe_playwright_python.sync_playwright import Axe

    names = [
        "<script>document.title='hit'</script>",
        "q\"uo'te",
        "\u05e9\u05dc\u05d5\u05dd \u202eback",
        "__proto__",
        "x" * 300,
    ]
    points = [
        ({name: n % 3 if at % 2 else f"{name}{n % 2}" * 20 for at, name in enumerate(names)},
         {**dict.fromkeys(names, (-1) ** n * 10.0 ** (n * 25 - 300)), "same": 1.0})
        for n in range(24)
    ]  # fmt: skip
    rows = [
        {"kwargs": kwargs, "count": 1, "metrics": {n: {"mean": v, "std": None, "count": 1} for n, v in values.items()}}
        for kwargs, values in points
    ]
    data = ReportData(
        kind="run", title=names[0], about=names[2], made_at=0.0, version="1", noun="task", total=30,
        counts={"complete": 24, "running": 6}, gaps=[Gap(what=names[0], tasks="24-29", command=names[1])], main=names[0],
        direction="min", rows=binning.table_rows(rows, names[0]), binned=binning.binned(points, names[0]),
    )  # fmt: skip
    page = tmp_path / "page.html"
    page.write_text(render(data)[0])
    for width in WIDTHS:
        tab = opened(page, width)
        assert Axe().run(tab).response["violations"] == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.title().startswith("<script>")
        tab.locator("#filter").fill(f"same>0 {names[3]}=1")
        assert tab.locator("#rows-told").inner_text().startswith("Rows 1 to")
        for place in range(tab.locator("#explore-metric option").count()):
            tab.locator("#explore-metric").select_option(index=place)
            assert tab.locator("#explore-each svg").count() >= 4
