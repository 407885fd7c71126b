"""The page of a report: numbers and ticks, nothing of a user's text becomes markup, its size is bounded."""

import itertools
import json
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpc_agent.campaign.journal import fold
from hpc_agent.campaign.manifest import Constraint, Manifest, Metric, Parameter
from hpc_agent.campaign.stopping import Spent
from hpc_agent.node.shared import binning
from hpc_agent.node.shared.metric_names import main_metric
from hpc_agent.ops.report.campaign_data import campaign_data
from hpc_agent.view.report import numbers
from hpc_agent.view.report.charts.effects import apart
from hpc_agent.view.report.data import Campaign, Gap, ReportData, Section
from hpc_agent.view.report.markup import escaped, tag
from hpc_agent.view.report.page import render
from hpc_agent.view.report.plot import CHARACTER, Plot, Scale, axis_scale, centres
from hpc_agent.view.report.sections import headline

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script><b>", "a&b;", "'quoted'", "\u202eback",
           "</template>", "{{x}}", "\x00nul", "-->", "]]>", "\ud800"]  # fmt: skip
finite = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(min_value=-1e6, max_value=1e6, allow_subnormal=False)


class Page(HTMLParser):
    """The elements of a page, in order, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self._inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        self._inside = name

    def handle_data(self, text):
        if self._inside not in ("script", "style"):
            self.words.append(text)

    def named(self, name):
        return [attributes for found, attributes in self.elements if found == name]


def report_of(points, *, metric=None, text="t", total=None, replicates=(), **more):
    """The document of a run whose complete tasks gave these (parameters, metrics)."""
    names = {name for _, metrics in points for name in metrics}
    main = metric or main_metric(names)
    rows = [
        {"kwargs": kwargs, "count": 1, "metrics": {n: {"mean": v, "std": None, "count": 1} for n, v in metrics.items()}}
        for kwargs, metrics in points
    ]
    log = {"log_tail": f"Traceback\n{text}", "task": 3, "message": text, "line": text, "exception": text, "frame": text}
    group = {"class": "code_error", "title": "The program failed", "count": 2, "tasks": "3-4", "confidence": "certain",
             "evidence": [{"source": "log", "text": text}], "hosts": {text: 2}, "remedy": text, "sample": log}  # fmt: skip
    document = {
        "kind": "run", "title": text, "about": text,
        "made_at": 0.0, "version": "1", "noun": "task", "total": total or len(points) + 2,
        "counts": {"complete": len(points), "failed": 2}, "gaps": [Gap(what=text, tasks="3-4", command=text)], "main": main,
        "direction": "max", "replicates": list(replicates), "rows": binning.table_rows(rows, main),
        "binned": binning.binned(points, main), "groups": [group],
        "provenance": [Section(title=text, facts=[(text, text), ("long", text * 700)])], "table_command": f"aggregate {text}",
    }  # fmt: skip
    return ReportData(**{**document, **more})


def usage_of(seconds, asked=3600.0):
    return {"asked": {"walltime_sec": [asked, asked], "cpus": [2, 2]}, "seconds": binning.histogram(seconds), "memory_mb": None,
            "gpu_memory_mb": None, "core_hours": {"computing": 1.0, "idle": 2.0, "failed": 0.5}, "gpu_hours": 0.0, "pack": 1,
            "unmeasured": 1}  # fmt: skip


# ---------------------------------------------------------------- numbers and ticks


@given(st.floats(min_value=-1e300, max_value=1e300), st.integers(min_value=2, max_value=8))
def test_a_number_keeps_its_digits(value, digits):
    text = numbers.number(value, digits)
    plain = text.replace(numbers.MINUS, "-").replace(",", "").replace(numbers.TIMES + "10", "e")
    read = float(plain.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert math.isclose(read, value, rel_tol=0.51 * 10 ** (1 - digits), abs_tol=5e-324)
    assert len(text) <= digits + 12


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.98214, 4, "0.9821"), (54.0, 4, "54"), (12345.6, 3, "12,300"), (1.2e-5, 3, "1.2×10⁻⁵"), (-0.5, 3, "−0.5"), (0.0, 4, "0"),
     (1234567.0, 3, "1.23×10⁶"), (999999.9, 4, "1×10⁶"), (100.0, 2, "100"), (1e-4, 3, "0.0001")],
)  # fmt: skip
def test_numbers_for_readers(value, digits, text):
    assert numbers.number(value, digits) == text


def test_a_mean_has_as_many_decimals_as_its_deviation():
    assert numbers.spread(0.97021, 0.00734) == "0.9702 ± 0.0073"
    assert numbers.spread(-123.456, 12.3) == "−123 ± 12"
    assert numbers.spread(966.51, 234.0) == "970 ± 230"
    assert numbers.spread(0.08, 0.0) == "0.08 ± 0"
    assert numbers.duration(60) == "1\N{NO-BREAK SPACE}min"
    assert numbers.duration(90) == "90\N{NO-BREAK SPACE}s"


@given(finite, finite)
def test_ticks_are_few_ascending_and_inside(a, b):
    low, high = min(a, b), max(a, b)
    found = numbers.ticks(low, high)
    assert 1 <= len(found) <= 12
    assert found == sorted(set(found))
    if math.isfinite(high - low) and high - low > abs(low) * 1e-9:
        room = (high - low) * 1e-6
        assert low - room <= found[0]
        assert found[-1] <= high + room
    assert len({numbers.tick_label(tick, found) for tick in found}) == len(found)


@given(st.floats(min_value=1e-300, max_value=1e300), st.floats(min_value=1.0, max_value=1e6))
def test_ticks_of_a_logarithmic_axis(low, ratio):
    found = numbers.log_ticks(low, low * ratio)
    assert 1 <= len(found) <= 10
    assert found == sorted(found)
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in found)


@given(st.floats(min_value=1e-3, max_value=1e8))
def test_ticks_of_time_have_round_labels(high):
    found, size, unit = numbers.time_ticks(high)
    assert 1 <= len(found) <= 12
    assert found[0] == 0
    assert found[-1] <= high
    assert unit in ("s", "min", "h", "d")
    assert high < 5 or all(float(tick / size).is_integer() or tick / size * 2 % 1 == 0 for tick in found)


@given(st.lists(finite, min_size=2, max_size=20), st.sampled_from(["linear", "log"]))
@example([5.000000000000327e307] * 2, "log")
@example([1.0, 3.766340504901157e293], "log")
@example([5e-324, 1e308], "log")
def test_a_scale_is_monotonic_and_stays_in_the_picture(values, kind):
    scale = Scale.padded(min(values), max(values), kind)
    scale.pixels = (50.0, 380.0)
    pixels = [scale(value) for value in sorted(values)]
    assert pixels == sorted(pixels)
    assert all(40 <= pixel <= 390 for pixel in pixels)


@given(st.lists(st.floats(min_value=20, max_value=200), min_size=1, max_size=6))
def test_labels_at_the_ends_of_lines_do_not_cover_each_other(places):
    moved = apart(sorted(places), Plot("x"))
    assert all(b - a >= 12.99 for a, b in itertools.pairwise(moved))
    assert moved[-1] <= Plot("x").bottom


@given(moderate, moderate)
@example(0.0, 500_000.0)
def test_labels_of_ticks_do_not_cover_each_other(a, b):
    plot, scale = Plot("x"), Scale.padded(min(a, b), max(a, b))
    scale.pixels = (157.0, plot.right)
    plot.label_ticks(scale)
    found = [re.search(r'x="([^"]+)".*>(.+)</text>', part).groups() for part in plot.parts]
    ends = [(float(x) - CHARACTER * len(text) / 2, float(x) + CHARACTER * len(text) / 2) for x, text in found]
    assert found
    assert all(before < after for (_, before), (after, _) in itertools.pairwise(ends))


# ---------------------------------------------------------------- bins

values_of = st.one_of(moderate, st.integers(min_value=-5, max_value=5), st.sampled_from(["a", "b", None, True]))
points_of = st.lists(
    st.tuples(
        st.fixed_dictionaries({"x": moderate, "k": values_of}),
        st.fixed_dictionaries({"loss": moderate, "acc": moderate}),
    ),
    min_size=1,
    max_size=80,
)


@given(points_of)
def test_every_value_is_in_one_bin(points):
    found = binning.binned(points, "acc")
    for metric in found["metrics"]:
        values = [metrics[metric] for _, metrics in points]
        assert sum(found["histograms"][metric]["counts"]) == len(points)
        for axis, figures in zip(found["axes"], found["effects"][metric], strict=True):
            known = [row for row in figures if row]
            assert len(figures) == len(centres(axis)) <= binning.MOST_VALUES
            assert sum(row[0] for row in known) == len(points)
            mean = math.fsum(row[0] * row[1] for row in known) / len(points)
            assert math.isclose(mean, math.fsum(values) / len(values), rel_tol=1e-5, abs_tol=1e-1)
            assert all(row[2] <= row[3] <= row[4] <= row[5] <= row[6] for row in known)
            axis_scale(axis)
        for cells in found["pairs"][metric].values():
            assert sum(n for _, _, n, _ in cells) == len(points)
    assert all(axis["strength"] is None or 0 <= axis["strength"] <= 1 for axis in found["axes"])


def test_an_effect_is_told_from_noise():
    effect = [({"x": x, "y": y}, {"acc": 3.0 * x + 0.01 * y}) for x in range(5) for y in range(10)]
    axes = {axis["name"]: axis["strength"] for axis in binning.binned(effect, "acc")["axes"]}
    assert axes["x"] > 0.99
    assert axes["y"] == 0
    alone = binning.binned([({"x": x}, {"acc": float(x)}) for x in range(5)], "acc")
    assert [axis["strength"] for axis in alone["axes"]] == [None], "one value in each bin tells no effect from noise"


def test_a_text_that_is_always_another_has_no_chart_and_the_page_says_so():
    found = binning.binned([({"path": f"/data/{n}", "x": n}, {"acc": 1.0}) for n in range(40)], "acc")
    assert [axis["name"] for axis in found["axes"]] == ["x"]
    assert "path has no chart" in found["left_out"][0]


# ---------------------------------------------------------------- the page


def check(page):
    """What must hold of every page: the policy, one script beside the data, no attribute that runs or styles anything."""
    read = Page(page)
    [policy] = [meta["content"] for meta in read.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    scripts = read.named("script")
    assert [script.get("type") for script in scripts if script.get("type")] == ["application/json"] * (len(scripts) - 1)
    assert {name for name, _ in read.elements} <= {
        *"html head meta title style body header h1 h2 h3 p nav a main section ul li code div label input table thead".split(),
        *"tbody tr th td button script select option template figure figcaption svg path text details summary pre".split(),
        *"dl dt dd footer small".split(),
    }  # fmt: skip
    for _, attributes in read.elements:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset", "action")
        ]
        assert attributes.get("href", "#").startswith("#")
    identifiers = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    return read


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_user_becomes_markup(text):
    points = [({text: n, "kind": text + str(n % 2), "x": float(n)}, {text: n / 7, "acc": n / 3}) for n in range(12)]
    data = report_of(points, text=text, metric=text, time_line=None, waves=[])
    data.campaign = Campaign(trials=[(0, 1.0), (1, 2.0)], best=[(0, 1.0)], failed=[2], objectives=[text, text],
                             both=[(1.0, 2.0)], front=[(1.0, 2.0)], budget=[(text, 1.0, 2.0)])  # fmt: skip
    page, _ = render(data)
    read = check(page)
    assert escaped(text) in page
    shown = "".join(read.words)
    assert any(part in shown for part in {text, escaped(text).replace("&lt;", "<")}) or not text.isprintable()
    [document] = re.findall(r'<script type="application/json" id="table-data">(.*?)</script>', page)
    assert text in {column["name"] for column in json.loads(document)["columns"]}


@given(st.text(max_size=30))
def test_an_attribute_and_a_text_come_back_as_they_were(text):
    read = Page(tag("p", {"aria-label": text}, text))
    assert len(read.elements) == 1
    assert all(ord(c) >= 32 or c in "\t\n\r" for c in read.elements[0][1]["aria-label"])
    if text.isprintable():
        assert read.elements[0][1]["aria-label"] == text
        assert "".join(read.words) == text


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(names, min_size=1, max_size=14, unique=True),
    st.lists(names, min_size=1, max_size=14, unique=True),
    st.data(),
)
def test_the_page_stays_small_whatever_the_names_and_values(parameters, metrics, data):
    texts = data.draw(st.lists(st.text(max_size=100), min_size=1, max_size=12))
    points = [
        ({name: texts[(n + at) % len(texts)] if at % 3 == 0 else math.sin(n * (at + 1)) * 10**at
          for at, name in enumerate(parameters)},
         {name: math.cos(n + at) / 3 for at, name in enumerate(metrics)})
        for n in range(700)
    ]  # fmt: skip
    report = report_of(points, usage=usage_of([float(n + 1) for n in range(700)]))
    report.groups = report.groups * 12
    page, left_out = render(report)
    assert len(page.encode()) <= 500_000
    assert page.count("<") / 2 <= 5_000 or len(check(page).elements) <= 5_000
    assert any("rows" in sentence for sentence in left_out)


def test_what_is_left_out_is_on_the_page():
    points = [({"x": n}, {f"m{at}": float(n) for at in range(6)}) for n in range(1000)]
    page, left_out = render(report_of(points, metric="m0"))
    words = " ".join(check(page).words)
    assert "charts show 4 of 6 metrics" in left_out
    assert any("of 1,000 rows" in sentence for sentence in left_out)
    assert all(sentence[1:] in words for sentence in left_out)


def test_a_run_without_a_result_has_a_page():
    page, _ = render(report_of([], total=3, groups=[], usage=usage_of([])))
    assert "No task has given a metric yet" in page
    check(page)


@pytest.mark.parametrize(
    ("values", "said"),
    [([0.5], "acc: 0.5 at x = 0"), ([0.5, 0.5], "acc is 0.5 in every row"), ([0.5, 0.7], "Highest acc: 0.7 at x = 1")],
)
def test_the_best_is_called_so_only_among_others(values, said):
    assert headline(report_of([({"x": n}, {"acc": value}) for n, value in enumerate(values)])).endswith(f". {said}.")


def test_a_parameter_with_the_name_of_the_metric_is_not_told_as_sorted():
    page, _ = render(report_of([({"acc": n, "x": n}, {"acc": n / 7}) for n in range(5)]))
    heads = check(page).named("th")
    assert [head.get("aria-sort") for head in heads] == ["descending", None, None]


def test_one_task_and_values_beyond_every_scale():
    for values in ([1.0], [0.0, 0.0], [1e308, -1e308], [5e-324, 1e300], [3.0, 3.0, 3.0]):
        points = [({"x": value, "y": -value, "k": "a"}, {"acc": value}) for value in values]
        page, _ = render(report_of(points, usage=usage_of([abs(value) for value in values])))
        check(page)
        assert not re.search(r"\b(nan|inf)\b", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))


# ---------------------------------------------------------------- campaigns


def campaign_of(trials, run_id="", why="", **manifest):
    """The document of a campaign whose trials are (origin, state, loss)."""
    events = []
    for n, (origin, state, loss) in enumerate(trials):
        iteration = -1 if origin.startswith("seed:") else 0
        events.append(
            {"event": "ask", "trial": n, "iteration": iteration, "params": {"rate": 0.1 * (n + 1)}, "origin": origin}
        )
        if state:
            values = {"loss": loss} if loss is not None else {}
            events.append({"event": "tell", "trial": n, "state": state, "values": values, "why": why})
    if run_id:
        events.append({"event": "submitted", "iteration": 0, "run_id": run_id, "trials": [*range(len(trials))]})
    space = {"rate": Parameter(type="float", low=0.05, high=1.0, log=True)}
    found = Manifest(campaign_id="c", space=space, metrics=[Metric(name="loss", direction="minimize")], **manifest)
    return campaign_data(found, fold(events), Spent(), 0.0, None, "auto", "hpc-agent campaign-driver --campaign-id c")


def test_only_final_values_of_the_campaign_itself_may_be_the_best():
    trials = [("seed:old/3", "complete", 0.1), ("tpe", "complete", 0.5), ("tpe", "stopped", 0.2), ("tpe", "failed", None),
              ("start", "complete", 0.4), ("tpe", "", None)]  # fmt: skip
    data = campaign_of(trials)
    told = "2 of 5 trials are complete, 1 ended early, 1 failed, 1 not ended yet. Lowest loss: 0.4 at rate = 0.5."
    assert headline(data) == told
    assert "1 more trial known from earlier campaigns" in data.about
    assert data.campaign.best == [(1, 0.5), (4, 0.4)]
    assert data.rows["parameters"] == ["rate", "trial", "origin", "state"]
    assert [row[2] for row in data.rows["rows"]] == ["old/3", "tpe", "tpe", "start"]
    assert data.binned["axes"][0]["scale"] == "log", "as the manifest says"
    assert data.binned["histograms"]["loss"]["n"] == 3, "no value of an early step"
    read = check(render(data)[0])
    assert "2 rows whose value does not count" in "".join(read.words)
    assert [gap.command for gap in data.gaps if gap.command] == ["hpc-agent campaign-driver --campaign-id c"]


@pytest.mark.parametrize(
    ("trials", "said"),
    [([], "No trial has been asked yet."), ([("tpe", "", None)], "0 of 1 trial is complete, 1 not ended yet."),
     ([("tpe", "failed", None)] * 2, "0 of 2 trials are complete, 2 failed."),
     ([("tpe", "stopped", 0.3)], "0 of 1 trial is complete, 1 ended early."),
     ([("seed:old/1", "complete", 0.3)], "No trial has been asked yet.")],
)  # fmt: skip
def test_a_campaign_without_a_result_says_so(trials, said):
    data = campaign_of(trials)
    assert headline(data) == said
    assert data.gaps
    check(render(data)[0])


def test_a_trial_outside_of_the_constraints_is_never_the_best():
    data = campaign_of([("tpe", "complete", 0.5)] * 2, constraints=[Constraint(metric="loss", at_most=-5)])
    assert headline(data) == "All 2 trials are complete."
    assert data.campaign.best == []


@pytest.mark.parametrize(
    ("why", "command"),
    [
        ("the metric 'loss' is nan", "logs --task-id 1 --run-id c-1"),
        ("code_error: exit code 3", "failures --run-id c-1"),
    ],
)
def test_the_page_sends_to_what_shows_why_a_trial_failed(why, command):
    data = campaign_of([("tpe", "", None), ("tpe", "failed", None)], run_id="c-1", why=why)
    assert next(gap.command for gap in data.gaps if "failed" in gap.what) == f"hpc-agent {command}"
