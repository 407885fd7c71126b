"""classify-axis-easy: known patterns get their kind, and a claimed halo is never too small."""

import json
import math
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
    if found.data_axis is None or found.kind == "sequential":
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
    "[max(x[max(0, i - k):i + 1]) for i in range(len(x))]",
    "[sum(x[max(0, i - 1):i + k]) for i in range(len(x))]",
    "[x[i] * x[i - 1] if i >= 1 else 1.0 for i in range(len(x))]",
    "[math.sqrt(abs(x[i - k])) if i >= k else abs(x[i]) for i in range(len(x))]",
]


@given(st.lists(st.sampled_from(STAGES), min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 10**6))
def test_the_halo_of_a_composition_is_never_too_small(tmp_path_factory, stages, k, seed):
    lines = "".join(f"    x{n + 1} = " + re.sub(r"\bx\b", f"x{n}", stage) + "\n" for n, stage in enumerate(stages))
    source = f"def run(x0, k):\n{lines}    return x{len(stages)}\n"
    found = classified(tmp_path_factory.mktemp("composition"), source)
    assert found.kind in ("independent", "bounded_halo"), (found, source)
    namespace: dict = {}
    exec((IMPORTS + source).replace("import pandas as pd\n", ""), namespace)
    rng = random.Random(seed)
    rows = [rng.gauss(0, 1) for _ in range(rng.choice([5, 30, 400]))]
    report = check_elision(namespace["run"], rows, found.data_axis, rng.randint(2, 8), k=k)
    assert report.equal, (report, source)
    assert report.halo <= (k + 1) * len(stages)


COLUMNS = [
    "df['a'].shift(2)", "df['a'].shift(-1, fill_value=0)", "df['a'].diff(3)", "df['a'].rolling(4).max()",
    "df['a'].rolling(window=k, min_periods=1).min()", "df['a'].rolling(5, center=True).median()",
    "df['a'].rolling(3, closed='both').max()", "df['a'].rolling(3, closed='left').min()", "df['a'].ffill(limit=2)",
    "df['a'].bfill(limit=1)", "df['a'].pct_change(2, fill_method=None)", "df['a'].clip(-1, 1).shift(k)",
    "(df['a'] > df['b'].shift(k)).astype(int)", "np.where(df['a'] > 0, df['b'], df['a'].shift(1))",
    "df['a'].where(df['b'] > 0, 0)", "np.maximum(df['a'], df['b'].rolling(k).max())", "df['a'].fillna(0) - df['b'].fillna(1)",
    "df['a'].between(-1, 1)", "np.diff(df['a'], prepend=0.0)",
    "df['a'].rolling(k).max().shift(1).rolling(3).min()", "df['a'].abs().round(3).mul(df['b'])",
]  # fmt: skip


@pytest.mark.parametrize("expression", COLUMNS)
def test_every_column_method_that_is_called_safe_is_safe(tmp_path, expression):
    pandas = pytest.importorskip("pandas")
    source = f"def run(df, k):\n    y = {expression}\n    return y\n"
    found = classified(tmp_path, source)
    assert found.kind in ("independent", "bounded_halo"), found
    namespace: dict = {}
    exec(IMPORTS + source, namespace)
    rng = random.Random(expression)
    columns = {name: [rng.choice([math.nan, rng.gauss(0, 1), 1.0]) for _ in range(90)] for name in "ab"}
    for k in (1, 3, 8):
        for chunks in (2, 7):
            assert check_elision(namespace["run"], pandas.DataFrame(columns), found.data_axis, chunks, k=k).equal


UNSAFE = [
    "df['a'].isin([1.0, 2.0])", "df[['a', 'b']].shift(k)", "df['a'].rolling_mean(3)",
    "abs(df['a']).expanding()", "df['a'].rolling(3)", "df['a'].rolling(2 * k).max()",
    "df['a'].isin(df['b'])", "df.a.isin(df.b)", "df['a'].astype('category').cat.codes", "df['a'] / np.sqrt(df['a'] @ df['a'])",
    "df['a'].shift(1, fill_value=df['a'].mean())", "np.cumsum(df, 1)", "df['a'].shift(1, freq='D')", "df['a'].shift(1, 'D')",
    "df['a'].rolling('5D').mean()", "df['a'].rolling(3, on='b').mean()", "df['a'].rolling(3, win_type='gaussian').mean(std=2)",
    "df['a'].rolling(3, step=2).mean()", "df.rolling(3, axis=1).mean()", "df['a'].rolling(3, method='table').mean()",
    "df['a'].rolling(-3).mean()", "df['a'].rolling(0).mean()", "df['a'].fillna(df['a'].mean())", "df['a'].fillna(method='ffill')",
    "df['a'].ffill()", "df['a'].interpolate()", "df['a'][::-1].shift(1)", "df['a'].iloc[::-1]", "df.groupby('b')['a'].diff()",
    "df['a'].ewm(span=3, min_periods=9).mean()", "df['a'].ewm(alpha=2).mean()", "df['a'].ewm(span=3, times=df['b']).mean()",
    "df['a'].pct_change(2)", "df['a'].diff().cumsum()", "df['a'].cumsum().shift(1)", "df['a'] - df['a'].max()",
    "df['a'].rank()", "df['a'].quantile(0.5)", "df['a'].sort_values()", "df['a'].dropna()", "df[df['a'] > 0]", "df.sum(axis=1)",
    "df['a'].clip(df['a'].min(), 1)", "df['a'].where(df['a'] > df['a'].mean(), 0)", "df['a'].map(k)", "df['a'].apply(k)",
    "np.log(df['a'], df['b'])", "np.roll(df['a'], 1)", "np.gradient(df['a'])", "df['a'].values[::-1]", "df.T", "df.index * 2",
    "pd.Series(df['a'].to_numpy()).shift(1)", "df['a'].reset_index(drop=True)", "df['a'].shift(**k)",
    "df['a'].expanding(3).max()",
    "df['a'].tolist() + df['b'].tolist()",
    "df.pipe(k)", "df.eval('a + b')", "(lambda: df)()", "df['a'].diff(k, 1)", "pd.read_csv('f.csv')['a']", "np.load('f.npy') * 2",
]  # fmt: skip


@pytest.mark.parametrize("expression", UNSAFE)
def test_what_the_table_does_not_hold_is_unclassifiable(tmp_path, expression):
    found = classified(tmp_path, f"def run(df, k):\n    x = df['a']\n    return {expression}\n")
    assert found.kind == "unclassifiable", found
    assert found.evidence[-1]["line"]


REBOUND = [
    "def run(x):\n    fx = x.copy()\n    out = []\n    for i in frange(len(x)):\n        out.append(fx[i])\n    return out\n",
    "np = Strange()\ndef run(x):\n    return np.sqrt(x)\n",
    "def run(x):\n    np.sqrt = np.cumsum\n    return np.sqrt(x)\n",
    "np.sqrt = np.cumsum\ndef run(x):\n    return np.sqrt(x)\n",
    "from lib import *\ndef run(x):\n    return np.sqrt(x)\n",
    "def abs(v):\n    return next(counter)\ndef run(x):\n    return [abs(v) for v in x]\n",
    "WINDOW = 9\ndef run(x):\n    return x.rolling(WINDOW).max()\n",
    "def f():\n    global WINDOW\n    WINDOW = 90\ndef run(x):\n    return x.rolling(WINDOW).max()\n",
    "@cached\ndef run(x):\n    return x.shift(1)\n",
    "def run(x):\n    y = x['a']\n    y += x['a'].shift(9)\n    return x\n",
    "def run(x):\n    out = []\n    same = out\n    for v in x:\n        out.append(v)\n    return same\n",
    "def run(x):\n    if len(x) > 50:\n        return x.shift(1)\n    return x.shift(2)\n",
    "def run(x):\n    for v in x:\n        x = x.shift(1)\n    return x\n",
    "def run(x):\n    n = len(x)\n    return x.rolling(n).mean()\n",
    "def run(x, other):\n    return x.shift(1) + other.shift(50)\n",
    "def run(x, s):\n    for v in x:\n        s += v\n    return s\n",
    "def run(x):\n    best = x[0]\n    x = x * 2\n    for v in x:\n        best = max(best, v)\n    return best\n",
    "def run(x):\n    s = 1\n    out = []\n    for v in x:\n        s += v\n        out.append(s)\n    return out\n",
]


@pytest.mark.parametrize("source", REBOUND)
def test_names_that_may_mean_something_else_are_not_believed(tmp_path, source):
    assert classified(tmp_path, source).kind in ("unclassifiable", "sequential"), source


def test_aliases_and_rebound_names_are_followed(tmp_path):
    source = """
    def run(df, w):
        same = df
        df['a'] = df['p'].shift(5)
        w = 2 * w
        same['b'] = same['a'].rolling(w).max()
        return same['b']
    """
    assert classified(tmp_path, source).kind == "unclassifiable"
    plain = """
    def run(df, w):
        same = df
        a = df['p'].shift(5)
        w = w + 2
        b = a
        return b.rolling(w).max() + same['p']
    """
    assert told(classified(tmp_path, plain)) == halo("w + 6")


TRACED = [
    "    y = np.cumsum(x)\n    out = []\n    for v in y:\n        out.append(v * 2)\n    return out\n",
    "    y = trim_emission(x.diff())\n    out = []\n    for v in y:\n        out.append(v)\n    return out\n",
    "    y = x.shift(9)\n    z = load_series(y)\n    return z.shift(1)\n",
    "    y = x.shift(9)\n    return y['a']\n",
]


@pytest.mark.parametrize("body", TRACED)
def test_a_total_or_trimmed_rows_that_go_on_are_refused(tmp_path, body):
    found = classified(tmp_path, f"def run(x):\n{body}")
    assert found.kind == "unclassifiable", found
    assert any("hpc-agent check-axis --source-path" in caveat for caveat in found.caveats)


def test_a_file_that_is_read_as_a_whole_is_named(tmp_path):
    for reader in ("pd.read_csv('p.csv')", "np.load('p.npy')", "open('p.txt').read()"):
        found = classified(tmp_path, f"def run(window):\n    return {reader}.rolling(window).max()\n")
        called = reader.partition("(")[0]
        assert found.kind == "unclassifiable"
        line = found.evidence[-1]["line"]
        assert (
            found.evidence[-1]["shows"]
            == f"{called} on line {line} reads the whole file in every chunk; use load_series"
        )
    sliced = "def run(window):\n    return load_series('p.csv', pd.read_csv).rolling(window).max()\n"
    assert told(classified(tmp_path, sliced)) == halo("window - 1")
