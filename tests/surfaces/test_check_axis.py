"""check-axis: running decides. Halos are found, and functions whose reach depends on the data or the length are refused."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("pandas")
HEAD = "import math\nimport numpy as np\nimport pandas as pd\n"


@pytest.fixture
def check(run_cli, tmp_path: Path):
    def run(source: str, name: str = "run", **fields):
        (tmp_path / "repo").mkdir(exist_ok=True)
        (tmp_path / "repo" / "features.py").write_text(HEAD + textwrap.dedent(source))
        spec = {"source_path": "features.py", "run_name": name, **fields}
        done = run_cli("check-axis", "--spec", "-", stdin=json.dumps(spec), cwd=tmp_path / "repo", timeout=120)
        assert len(json.dumps(done.envelope)) < 3000
        return done

    return run


NUMPY = """
def run(x, window):
    out = np.full(len(x), np.nan)
    sums = np.convolve(x, np.ones(window) / window, "valid")
    out[window - 1:] = sums
    return out
"""
PANDAS = "def run(x, window):\n    return x.rolling(window).mean()\n"
CLASS = """
class Features:
    def __init__(self):
        self.scale = 2.0

    def smooth(self, x, window):
        return [self.scale * sum(x[max(0, i - window + 1):i + 1]) / window for i in range(len(x))]
"""


@pytest.mark.parametrize(
    ("source", "name"),
    [(NUMPY, "run"), (PANDAS, "run"), (CLASS, "Features.smooth"), (CLASS, "features.Features.smooth")],
    ids=["numpy", "pandas", "class", "dotted"],
)
def test_the_halo_of_a_rolling_mean_is_found(check, source, name):
    found = check(source, name, params={"window": 12}).data
    assert (found["kind"], found["data_axis"]["halo"]) == ("bounded_halo", {"expr": "window - 1"}), found
    assert "ahead" not in found["data_axis"]
    assert len(found["evidence"]["lengths"]) == 2
    assert found["evidence"]["max_difference"] < 1e-2
    assert found["evidence"]["points"] == 3


FOUND = {
    "each row": ("def run(x):\n    return np.log1p(np.abs(np.asarray(x)))\n", {}, "independent", None, None),
    "previous value": (
        "def run(x):\n    prev, out = 0.0, []\n    for v in x:\n        out.append(v - prev)\n        prev = v\n    return out\n",
        {}, "bounded_halo", 1, None,
    ),
    "stencil of slices": (
        "def run(x):\n    x = np.asarray(x)\n    out = np.zeros(len(x))\n    out[2:-1] = x[3:] - x[:-3]\n    return out\n",
        {}, "bounded_halo", 2, 1,
    ),
    "twice a parameter": (
        "def run(x, k):\n    return pd.Series(np.asarray(x)).rolling(k).max().rolling(k).max().to_numpy()\n",
        {"k": 5}, "bounded_halo", "2 * k - 2", None,
    ),
    "hidden number": ("def run(x):\n    return x.rolling(150).max().fillna(0)\n", {}, "bounded_halo", "149", None),
    "text": ("def run(x):\n    return ['%.3f' % v for v in np.asarray(x)[::1]]\n", {}, "independent", None, None),
    "two columns of one name": (
        "def run(x, k):\n    return pd.concat([x.rename('a'), x.shift(k).rename('a')], axis=1)\n",
        {"k": 2}, "bounded_halo", "k", None,
    ),
    "window longer than the series": (
        "def run(x, w):\n    return x.rolling(w, min_periods=1).max()\n", {"w": 9000}, "bounded_halo", "w - 1", None,
    ),
    "running sum": ("def run(x):\n    return np.cumsum(np.asarray(x))\n", {}, "associative", None, None),
}  # fmt: skip


@pytest.mark.parametrize(("source", "params", "kind", "halo", "ahead"), FOUND.values(), ids=FOUND)
def test_what_is_found_by_changing_rows(check, source, params, kind, halo, ahead):
    found = check(source, params=params).data
    assert found["kind"] == kind, found
    axis = found["data_axis"]
    assert (axis.get("halo", {}).get("expr"), axis.get("ahead", {}).get("expr")) == (halo, ahead)
    assert ("monoid" in axis) == (kind == "associative")


def test_an_average_gets_the_halo_after_which_it_has_forgotten(check):
    source = """
    def run(x, alpha):
        y, out = None, []
        for v in x:
            y = v if y is None else alpha * v + (1 - alpha) * y
            out.append(y)
        return out
    """
    found = check(source, params={"alpha": 0.5}).data
    assert (found["kind"], found["data_axis"]) == ("bounded_halo", {"kind": "bounded_halo", "halo": {"expr": 129}}), (
        found
    )


REFUSED = {
    "whole mean": "def run(x):\n    return x - x.mean()\n",
    "normalised": "def run(x):\n    r = np.asarray(x)\n    return r / np.sqrt(r @ r)\n",
    "shift with a mean": "def run(x):\n    return x.shift(1, fill_value=x.mean())\n",
    "first row": "def run(x):\n    return np.asarray(x) - np.asarray(x)[0]\n",
    "rank": "def run(x):\n    return x.rank()\n",
    "categories": "def run(x):\n    return x.round(1).astype('category').cat.codes\n",
    "row number": "def run(x):\n    return [v * (i % 7) for i, v in enumerate(x)]\n",
    "since the last high": """
        def run(x):
            out, last = [], 0
            x = np.asarray(x)
            for i in range(len(x)):
                if x[i] > 2.0:
                    last = i
                out.append(x[i] - x[last])
            return out
        """,
    "look back until it is lower": """
        def run(x):
            x, out = np.asarray(x), []
            for i in range(len(x)):
                j = i
                while j > 0 and x[j] >= x[i] - 0.5:
                    j -= 1
                out.append(i - j)
            return out
        """,
    "position": """
        def run(x):
            held, out = 0, []
            for v in x:
                held = 1 if v > 1 else 0 if v < -1 else held
                out.append(held)
            return out
        """,
    "filled gaps": "def run(x):\n    return x.ffill()\n",
    "chance": "def run(x):\n    return np.asarray(x) + np.random.random(len(x))\n",
    "filter": "def run(x):\n    return x[x > 0]\n",
    "isin of other numbers": "def run(df):\n    return df['a'].isin(df['b'])\n",
    "isin": "def run(df):\n    return df['a'].round(1).isin(df['b'].round(1))\n",
    "groupby": "def run(df):\n    return df.groupby('id')['a'].diff()\n",
    "backtest": """
        def run(df):
            prices = df.set_index('date')['close']
            position = (prices > prices.rolling(20).mean()).astype(int)
            return (position.shift(1) * prices.diff()).fillna(0.0).cumsum()
        """,
    "fit": """
        def run(x):
            y = np.asarray(x)
            slope, level = np.polyfit(np.arange(len(y)), y, 1)
            return y - level - slope * np.arange(len(y))
        """,
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED)
def test_what_depends_on_the_data_or_the_length_is_refused(check, source):
    found = check(source).data
    assert found["kind"] in ("data_dependent", "length_dependent", "unclassifiable"), found
    assert found["data_axis"] is None
    assert found["reason"]


def test_a_backtest_without_a_running_total_has_a_halo(check):
    source = """
    def run(df, window):
        prices = df.set_index('date')['close']
        position = (prices > prices.rolling(window).mean()).astype(int)
        return (position.shift(1) * prices.diff()).fillna(0.0)
    """
    found = check(source, params={"window": 10}).data
    assert (found["kind"], found["data_axis"]["halo"]) == ("bounded_halo", {"expr": "window"}), found


def test_your_own_rows_and_load_series(check, tmp_path):
    (tmp_path / "repo").mkdir()
    lines = "".join(f"2020-{1 + n // 28:02d}-{1 + n % 28:02d},{(n * n) % 97}\n" for n in range(300))
    (tmp_path / "repo" / "p.csv").write_text("date,close\n" + lines)
    source = """
    from hpc_agent.experiment_kit.series import load_series, trim_emission

    def run(window):
        df = load_series("p.csv", pd.read_csv)
        return trim_emission(df["close"].rolling(window).max()).tolist()
    """
    found = check(textwrap.dedent(source), params={"window": 6}).data
    assert (found["kind"], found["data_axis"]["halo"]) == ("bounded_halo", {"expr": "window - 1"}), found
    assert "your rows" in found["evidence"]["rounds"]
    other = check("def run(x, k):\n    return x.shift(k)\n", params={"k": 3}, series="p.csv", column="close").data
    assert other["data_axis"]["halo"] == {"expr": "max(0, k)"}, other


def test_a_file_that_is_read_as_a_whole_is_named(check):
    found = check(
        "def run(window):\n    return pd.read_csv('p.csv').rolling(window).max()\n", params={"window": 3}
    ).data
    assert found["kind"] == "unclassifiable"
    assert found["reason"] == "pd.read_csv on line 5 reads the whole file in every chunk; use load_series"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import time\ndef run(x):\n    time.sleep(60)\n    return x\n", "more than 2 s"),
        ("def run(x):\n    return [bytearray(1 << 34)]\n", "memory_mb"),
        ("import os\ndef run(x):\n    os._exit(7)\n", "ended with 7"),
        ("raise SystemExit(3)\ndef run(x):\n    return x\n", "SystemExit"),
    ],
)
def test_the_child_is_bounded(check, source, words):
    found = check(source, time_limit_sec=2 if "sleep" in source else 60).data
    assert found["kind"] == "unclassifiable"
    assert words in found["reason"], found


PLAIN = """
def run(x, window):
    out = []
    for i in range(len(x)):
        total = 0.0
        for j in range(max(0, i - window + 1), i + 1):
            total += x[j]
        out.append(total{lists})
    return out
"""


@pytest.mark.parametrize(("lists", "form"), [("", "numpy array"), (" + 0 * x[:1].count(0.0)", "list")])
def test_a_function_that_cannot_take_a_part_of_a_pandas_series_is_given_another_form(check, tmp_path, lists, form):
    source = PLAIN.replace("{lists}", lists)
    found = check(source, params={"window": 4}).data
    assert (found["kind"], found["data_axis"]["halo"]["expr"]) == ("bounded_halo", "window - 1"), found
    assert found["evidence"]["form"] == form
    assert any("pandas Series: " in note for note in found["not_tried"])
    (tmp_path / "repo" / "p.csv").write_text("close\n" + "".join(f"{(n * n) % 97}.5\n" for n in range(200)))
    found = check(source, params={"window": 4}, series="p.csv", column="close").data
    assert (found["kind"], found["evidence"]["form"]) == ("bounded_halo", form), found


def test_missing_params_are_answered_with_a_command_that_runs(check, run_cli, tmp_path):
    refused = check("def run(x, window):\n    return x.rolling(window).max()\n").envelope
    assert refused["field"] == "params"
    command = refused["remediation"].partition("hpc-agent ")[2]
    assert command == """check-axis --source-path features.py --run-name run --params '{"window": 3}'"""
    done = run_cli(*shlex.split(command), cwd=tmp_path / "repo", timeout=120)
    assert done.data["data_axis"]["halo"] == {"expr": "window - 1"}


def test_bad_requests(check):
    assert check("def run(x, a, b):\n    return x\n").envelope["field"] == "params"
    assert check("def run(x):\n    return x\n", "other").envelope["field"] == "run_name"
    assert check("def run(x):\n    return x\n", python="/no/python").envelope["field"] == "python"
