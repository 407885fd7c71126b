"""classify-axis-easy: known patterns get their kind, and a claimed halo is never too small."""

import json
import random
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.series.proposals import classify
from hpc_agent.experiment_kit.series import check_elision, evaluate_rows, plan_tasks

IMPORTS = """
import math
import itertools
import numpy as np
import numpy
import pandas as pd
from collections import deque
from hpc_agent.experiment_kit.series import load_series, trim_emission
WINDOW = 5
"""


def classified(tmp_path, source):
    path = tmp_path / "train.py"
    path.write_text(IMPORTS + textwrap.dedent(source))
    return classify(path, "run")


def told(found):
    return found.kind, found.halo_expr, found.ahead_expr, found.monoid


def halo(expression):
    return ("bounded_halo", expression, None, None)


def examples(name):
    """Title -> (source, what classify tells) of a file of examples; "sequential or unclassifiable" is None."""
    found = {}
    text = (Path(__file__).resolve().parents[1] / "data" / "axis" / name).read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        head, _, source = section.partition("\n")
        title, _, expected = head.rpartition(": ")
        kind, *parts = expected.split("; ")
        facts = dict(part.split(" ", 1) for part in parts)
        told = (kind, facts.get("halo"), facts.get("ahead"), facts.get("monoid"))
        found[title] = (source, None if " or " in kind else told)
    return found


# Functions of plain Python and numpy: what is claimed of them is also tried out. The series is ``x``.
RUNNABLE = examples("tried_out.txt")
# What is not run: other libraries, totals, and what must not be split.
OTHERS = examples("read_only.txt")


@pytest.mark.parametrize(("source", "expected"), RUNNABLE.values(), ids=RUNNABLE)
def test_what_is_claimed_and_what_is_true(tmp_path, source, expected):
    found = classified(tmp_path, source)
    assert told(found) == expected, found
    if found.data_axis is None:
        return
    namespace: dict = {}
    exec((IMPORTS + source).replace("import pandas as pd\n", ""), namespace)
    rng = random.Random(11)
    for size, points in ((40, POINTS), (900, POINTS[:1])):
        rows = [rng.gauss(0, 1) for _ in range(size)]
        for point in points:
            params = {name: value for name, value in point.items() if name in namespace["run"].__code__.co_varnames[:3]}
            for series in (rows, np.array(rows)):
                for chunks in (2, 5):
                    assert check_elision(namespace["run"], series, found.data_axis, chunks, **params).equal, (
                        params,
                        chunks,
                    )


POINTS = [{"k": 1, "alpha": 0.5}, {"k": 3, "alpha": 0.7}, {"k": 4, "alpha": 0.3}]


@pytest.mark.parametrize(("source", "expected"), OTHERS.values(), ids=OTHERS)
def test_patterns(tmp_path, source, expected):
    found = classified(tmp_path, source)
    if expected is None:
        assert found.kind in ("sequential", "unclassifiable"), found
    else:
        assert told(found) == expected, found
    assert found.kind == "no_loop_detected" or all(
        item["line"] and item["text"] and item["shows"] for item in found.evidence
    )
    if found.data_axis and found.kind != "sequential":
        point = dict.fromkeys(("window", "w", "k", "a", "b", "lag", "s", "c"), 7) | {"alpha": 0.25}
        assert plan_tasks([point], found.data_axis, 3, 100)
    assert (found.data_axis is None) == (found.kind in ("unclassifiable", "no_loop_detected"))


def test_the_evidence_names_the_line(tmp_path):
    found = classified(tmp_path, "def run(x, window):\n    y = x.rolling(window).mean()\n    return y.shift(2)\n")
    lines = (IMPORTS + "def run(x, window):\n    y = x.rolling(window).mean()\n    return y.shift(2)\n").splitlines()
    assert [(lines[item["line"] - 1].strip(), item["shows"]) for item in found.evidence] == [
        ("y = x.rolling(window).mean()", "a window of window rows"),
        ("return y.shift(2)", "shift by 2"),
    ]
    assert any("check_elision" in caveat for caveat in found.caveats)
    doubtful = classified(tmp_path, "def run(x):\n    y = x * 2\n    return y - y.mean()\n")
    assert doubtful.evidence[-1]["text"] == "return y - y.mean()"


def notebook(*cells):
    code = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "text"}, *code], "nbformat": 4, "metadata": {}})


def test_a_notebook(tmp_path):
    path = tmp_path / "study.ipynb"
    path.write_text(
        notebook(
            "%matplotlib inline\nimport numpy as np\nWINDOW = 9",
            "def run(x):\n    return x.rolling(2).mean()",
            "this is no Python",
            "!pip list\ndef run(x):\n    return x.rolling(WINDOW).mean()",
        )
    )
    found = classify(path, "run")
    assert told(found) == halo("8")
    assert found.evidence == [
        {"cell": 4, "line": 3, "text": "return x.rolling(WINDOW).mean()", "shows": "a window of 9 rows"}
    ]
    assert any("cell 3 is not Python" in line for line in found.tried)


def test_functions_that_are_not_there_and_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def other_name(x):\n    return [v for v in x]\n")
    assert told(classify(path, "run")) == ("function_not_found", None, None, None)
    assert classify(path, "run").tried == ["function other_name"]
    assert classify(path, "other-name").kind == "independent"
    for name, text in (("bad.py", "def ("), ("bad.ipynb", "{"), ("nul.py", "\0")):
        (tmp_path / name).write_text(text)
        with pytest.raises(SpecInvalid) as caught:
            classify(tmp_path / name, "run")
        assert caught.value.field == "source_path"
    with pytest.raises(SpecInvalid):
        classify(tmp_path / "missing.py", "run")


AVERAGE = """
def run(x):
    y = 0.0
    out = []
    for v in x:
        y = alpha * v + (1 - alpha) * y
        out.append(y)
    return out
"""


def test_the_halo_of_an_average_is_that_of_the_kit(tmp_path):
    for alpha in (0.01, 0.1, 0.5, 1.0, 1.5):
        found = classified(tmp_path, AVERAGE.replace("alpha", str(alpha)))
        expression = classified(tmp_path, AVERAGE.replace("run(x)", "run(x, alpha)"))
        rows = int(found.halo_expr)
        assert (abs(1 - alpha) ** rows if alpha != 1 else 0) <= 2.0**-128
        assert evaluate_rows("halo", expression.halo_expr, {"alpha": alpha}) >= rows - 1
    refused = classified(tmp_path, "def run(x):\n y = 0.0\n for v in x:\n  y = 2.5 * v - 1.5 * y\n return y")
    assert refused.kind == "sequential"


# Stages that can follow each other: source of a function of (x, k), written as somebody would.
STAGES = [
    "[v * 2 for v in x]",
    "[x[i] - x[i - k] if i >= k else 0.0 for i in range(len(x))]",
    "[x[min(len(x) - 1, i + k)] for i in range(len(x))]",
    "[max(x[max(0, i - k):i + 1]) for i in range(len(x))]",
    "[sum(x[max(0, i - 1):min(len(x), i + k)]) for i in range(len(x))]",
    "[0.0] * k + [b - a for a, b in zip(x, x[k:])]",
    "[0.0] + [b * a for a, b in zip(x, x[1:])]",
    "windows(x, k)",
    "stencil(x, k)",
    "previous(x)",
    "fading(x)",
    "late(x, k)",
    "steps(x, k)",
]
HELPERS = """
def windows(x, k):
    last = deque(maxlen=k + 1)
    out = []
    for v in x:
        last.append(v)
        out.append(min(last) + len(last))
    return out

def stencil(x, k):
    out = [0.0] * len(x)
    for i in range(k, len(x) - 1):
        s = 0.0
        for j in range(i - k, i + 2):
            s = s + x[j]
        out[i] = s
    return out

def previous(x):
    a = 1.0
    b = 0.0
    out = []
    for v in x:
        change = v - a
        out.append(change if change > b else b)
        b = a
        a = v
    return out

def fading(x):
    y = 0.0
    out = []
    for v in x:
        y += 0.75 * (v - y)
        out.append(y if v > 0 else -y)
    return out

def late(x, k):
    out = []
    for i, v in enumerate(x):
        if i <= k:
            out.append(v)
            continue
        w = x[i - k - 1]
        if w > v:
            out.append(w)
        else:
            out.append(v)
    return out

def steps(x, k):
    out = np.zeros(len(x))
    for i in range(1, len(x)):
        if x[i] > x[i - 1]:
            out[i] = x[i]
    out[0] = 3.0
    return out.tolist()
"""


@given(st.lists(st.sampled_from(STAGES), min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 10**6))
def test_the_halo_of_a_composition_is_never_too_small(tmp_path_factory, stages, k, seed):
    lines = "".join(f"    x{n + 1} = " + re.sub(r"\bx\b", f"x{n}", stage) + "\n" for n, stage in enumerate(stages))
    source = HELPERS + f"def run(x0, k):\n{lines}    return x{len(stages)}\n"
    found = classified(tmp_path_factory.mktemp("composition"), source)
    assert found.kind in ("independent", "bounded_halo"), (found, source)
    namespace: dict = {}
    exec((IMPORTS + source).replace("import pandas as pd\n", ""), namespace)
    rng = random.Random(seed)
    rows = [rng.gauss(0, 1) for _ in range(rng.choice([5, 30, 400]))]
    report = check_elision(namespace["run"], rows, found.data_axis, rng.randint(2, 8), k=k)
    assert report.equal, (report, source)
    slack = 90 * stages.count("fading(x)") + 6 * len(stages)
    assert report.halo <= (k + 1) * len(stages) + slack
