"""Laws of a split series: the joined parts equal the whole to the last digit, and a split that does not is noticed."""

import contextlib
import itertools
import json
import math
import random
import statistics
from collections import deque

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hpc_agent.experiment_kit.series import (
    MAX,
    MIN,
    MOMENTS,
    SUM,
    active_slice,
    check_elision,
    chunk_bounds,
    data_axis,
    ema_halo,
    evaluate_rows,
    find_halo,
    first_difference,
    join,
    load_series,
    plan_tasks,
    series_length,
    series_slice,
    trim_emission,
)

number = st.floats(allow_nan=False, allow_infinity=False, width=64)
moderate = st.floats(min_value=-1e9, max_value=1e9)
series = st.lists(moderate, min_size=1, max_size=80)
chunks = st.integers(min_value=1, max_value=90)
windows = st.integers(min_value=1, max_value=12)


# The unsplit functions, as somebody would write them.


def rolling(rows, window, of):
    last, found = deque(maxlen=window), []
    for value in rows:
        last.append(value)
        found.append(of(last) if len(last) == window else math.nan)
    return found


def numpy_rolling(rows, window, of):
    found = np.full(len(rows), np.nan)
    if len(rows) >= window:
        found[window - 1 :] = of(np.lib.stride_tricks.sliding_window_view(np.asarray(rows), window), axis=1)
    return found


def stencil(rows, lag, lead):
    last = len(rows) - 1
    return [rows[min(i + lead, last)] - 2 * rows[i] + rows[max(i - lag, 0)] for i in range(len(rows))]


def ema(rows, alpha):
    value, found = rows[0], []
    for row in rows:
        value = alpha * row + (1 - alpha) * value
        found.append(value)
    return found


BACK = {"kind": "bounded_halo", "halo": "window - 1"}


@given(series, chunks, windows)
def test_rolling_windows_equal_the_whole(rows, count, window):
    axis = BACK if window > 1 else {"kind": "independent"}
    for of in (sum, min, max, statistics.fmean, math.fsum, lambda last: statistics.pstdev(last)):
        report = check_elision(lambda rows, window, of=of: rolling(rows, window, of), rows, axis, count, window=window)
        assert report.equal, report


@given(series, chunks, windows)
def test_rolling_windows_of_numpy_equal_the_whole(rows, count, window):
    axis = BACK if window > 1 else {"kind": "independent"}
    for of in (np.sum, np.mean, np.min, np.max, np.std, np.median):
        run = lambda rows, window, of=of: numpy_rolling(rows, window, of)
        assert check_elision(run, np.array(rows), axis, count, window=window).equal


@given(series, chunks, st.integers(0, 9), st.integers(0, 9))
def test_stencils_that_look_back_and_ahead_equal_the_whole(rows, count, lag, lead):
    assume(lag or lead)
    axis = {"kind": "bounded_halo", "halo": "lag", "ahead": "lead"}
    report = check_elision(stencil, rows, axis, count, lag=lag, lead=lead)
    assert (report.equal, report.halo, report.ahead) == (True, lag, lead)


@given(st.integers(), st.sampled_from([0.9, 0.5, 0.3, 0.2]), st.integers(2, 9), st.floats(-6, 6), st.floats(-3, 3))
def test_moving_averages_that_never_forget_equal_the_whole_on_ordinary_data(seed, alpha, count, size, level):
    rng = random.Random(seed)
    rows = [(rng.gauss(0, 1) + level) * 10**size for _ in range(3000)]
    report = check_elision(ema, rows, {"kind": "bounded_halo", "halo": "89 // alpha + 1"}, count, alpha=alpha)
    assert report.equal, report
    assert report.halo >= ema_halo(alpha)
    if alpha <= 0.5:
        assert not check_elision(ema, rows, {"kind": "bounded_halo", "halo": 20}, count, alpha=alpha).equal


@given(st.floats(min_value=1e-6, max_value=1.0))
@example(1.0)
def test_the_halo_of_an_average_is_long_enough_and_the_expression_never_shorter(alpha):
    halo = ema_halo(alpha)
    assert halo * math.log1p(-alpha) <= -128 * math.log(2) if alpha < 1 else halo == 1
    assert evaluate_rows("halo", "89 // alpha + 1", {"alpha": alpha}) >= halo - 1


def test_an_average_that_fades_into_silence_is_refused_and_a_longer_halo_is_found_where_there_is_one():
    silence = [1.0] + [0.0] * 4000
    axis = {"kind": "bounded_halo", "halo": "89 // alpha + 1"}
    report = check_elision(ema, silence, axis, alpha=0.1)
    assert not report.equal
    assert report.first_difference["parts"] == 0.0
    with pytest.raises(ValueError, match="keep the series whole"):
        find_halo(ema, silence, axis, alpha=0.1)
    assert find_halo(ema, silence, axis, alpha=0.5).halo > 500, "it halves until nothing is left"
    rng = random.Random(5)
    noise = [rng.gauss(0, 1) for _ in range(4000)]
    found = find_halo(ema, noise, {"kind": "bounded_halo", "halo": 3}, alpha=0.5)
    assert 24 <= found.halo <= 96
    assert find_halo(ema, noise, axis, alpha=0.5) == data_axis(axis)


@given(st.lists(number, min_size=1, max_size=60), chunks)
def test_cumulative_sums_and_moments_are_the_exact_ones_however_they_are_split(rows, count):
    axis = {"kind": "associative", "monoid": "sum"}
    assert check_elision(SUM.cumulative, rows, axis, count).equal
    cut = [(a, SUM.cumulative(rows[a:b])) for a, b in chunk_bounds(len(rows), count)]
    try:
        exact = [math.fsum(rows[: i + 1]) + 0.0 for i in range(len(rows))]
    except OverflowError:
        return
    assert first_difference(exact, join(json.loads(json.dumps(cut)))) is None


@given(st.lists(moderate, min_size=1, max_size=40), chunks, st.sampled_from(["mean", "m2", "variance", "std", None]))
def test_running_moments_equal_the_whole(rows, count, figure):
    run = lambda rows: MOMENTS.cumulative(rows, figure)
    assert check_elision(run, rows, {"kind": "associative", "monoid": "moments"}, count).equal


@given(st.lists(number, min_size=1, max_size=60), chunks)
def test_running_extremes_of_anybodys_making_equal_the_whole(rows, count):
    for name, of, array in (("max", max, np.maximum), ("min", min, np.minimum)):
        axis = {"kind": "associative", "monoid": name}
        assert check_elision(lambda rows, of=of: list(itertools.accumulate(rows, of)), rows, axis, count).equal
        values = np.array([row + 0.0 for row in rows])
        assert check_elision(array.accumulate, values, axis, count).equal


@given(st.lists(st.integers(-(10**20), 10**20), min_size=1, max_size=60), chunks)
def test_running_sums_of_whole_numbers_need_no_change(rows, count):
    run = lambda rows: list(itertools.accumulate(rows))
    assert check_elision(run, rows, {"kind": "associative", "monoid": "sum"}, count).equal


def test_a_running_sum_of_rounded_floats_is_refused():
    rng = random.Random(2)
    rows = [rng.uniform(0, 1) for _ in range(500)]
    axis = {"kind": "associative", "monoid": "sum"}
    report = check_elision(lambda rows: list(itertools.accumulate(rows)), rows, axis)
    assert not report.equal
    assert report.first_difference["whole"] == pytest.approx(report.first_difference["parts"])
    with pytest.raises(ValueError, match=r"MOMENTS\.cumulative"):
        check_elision(lambda rows: rows, rows, {"kind": "associative", "monoid": "moments"})


@given(series, chunks, st.sampled_from([SUM, MOMENTS, MIN, MAX]))
def test_partials_of_chunks_merge_to_that_of_the_whole(rows, count, monoid):
    assert check_elision(monoid.of, rows, {"kind": "associative", "monoid": monoid.name}, count).equal


def test_partials_that_count_the_warm_up_twice_are_noticed():
    axis = {"kind": "associative", "monoid": "sum", "halo": 1}
    changes = lambda rows: [b - a for a, b in zip([0, *rows], rows, strict=False)]
    rows = [float(n * n % 7) for n in range(50)]
    assert check_elision(lambda rows: SUM.of(trim_emission(changes(rows))), rows, axis).equal
    assert not check_elision(lambda rows: SUM.of(changes(rows)), rows, axis).equal


@given(st.integers(2, 12), st.integers(2, 8))
def test_a_halo_one_row_too_short_is_noticed(window, count):
    rows = [math.sin(n * n) for n in range(100)]
    run = lambda rows, window: rolling(rows, window, sum)
    short = check_elision(run, rows, {"kind": "bounded_halo", "halo": "max(1, window - 2)"}, count, window=window)
    assert short.equal == (window == 2), short
    if not short.equal:
        row = short.first_difference["row"]
        assert row in {start for start, _ in chunk_bounds(100, count)}
        assert short.first_difference["whole"] == run(rows, window)[row]
    assert check_elision(run, rows, BACK, count, window=window).equal


def test_what_looks_at_the_whole_series_is_noticed():
    rows = [math.sin(n) for n in range(100)]
    demeaned = lambda rows: [row - statistics.fmean(rows) for row in rows]
    numbered = lambda rows: [row * (n % 7) for n, row in enumerate(rows)]
    for run in (demeaned, numbered):
        assert not check_elision(run, rows, {"kind": "independent"}, 6).equal
        assert check_elision(run, rows, {"kind": "sequential"}, 1).equal


def test_columns_are_compared_by_name():
    rows = [float(n % 5) for n in range(40)]
    run = lambda rows: {"same": rows, "total": SUM.cumulative(trim_emission(rows)), "place": list(range(len(rows)))}
    with pytest.raises(ValueError, match="trim the terms"):
        check_elision(lambda rows: {"total": SUM.cumulative(rows)}, rows, {"kind": "independent"}, 4)
    trimmed = lambda rows: {
        name: column if name == "total" else trim_emission(column) for name, column in run(rows).items()
    }
    report = check_elision(trimmed, rows, {"kind": "independent"}, 4)
    assert report.first_difference == {"column": "place", "row": 10, "whole": 10, "parts": 0}


def test_a_function_that_changes_its_rows_does_not_spoil_the_check():
    rows = np.arange(20.0)

    def doubled(rows):
        rows *= 2
        return rows

    assert check_elision(doubled, rows, {"kind": "bounded_halo", "halo": 5}, 4).equal
    assert rows.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (0.1 + 0.2, 0.3, False),
        (math.nan, math.nan, True),
        (0.0, -0.0, False),
        ([1, "a", None], [1, "a", None], True),
        ([1.0], [1], True),
        ([1, 2], [1], False),
        ({"a": [1]}, {"b": [1]}, False),
        (np.array([[1.0, np.nan]]), [[1.0, math.nan]], True),
        ([np.float32("nan")], [math.nan], True),
        ([{"a": 1.0}], [{"a": 2.0}], False),
        ({"a": 1}, [1], False),
    ],
)
def test_to_the_last_digit(left, right, same):
    assert (first_difference(left, right) is None) is same
    assert (first_difference(right, left) is None) is same


# Planning.


@given(st.integers(1, 10**7), st.integers(1, 500))
def test_chunks_are_balanced_cover_every_row_once_and_are_never_empty(length, count):
    bounds = chunk_bounds(length, count)
    assert [a for a, _ in bounds] == [0] + [b for _, b in bounds[:-1]]
    assert bounds[-1][1] == length
    sizes = {b - a for a, b in bounds}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(bounds) == min(length, count)


def test_tasks_are_the_points_of_the_sweep_times_the_chunks():
    sweep = [{"window": 3, "asset": "a"}, {"window": 20, "asset": "b"}]
    tasks = plan_tasks(sweep, {"kind": "bounded_halo", "halo": {"expr": "window - 1"}}, 2, 11)
    assert tasks == [
        {"window": 3, "asset": "a", "start": 0, "end": 5, "halo": 2},
        {"window": 3, "asset": "a", "start": 5, "end": 11, "halo": 2},
        {"window": 20, "asset": "b", "start": 0, "end": 5, "halo": 19},
        {"window": 20, "asset": "b", "start": 5, "end": 11, "halo": 19},
    ]
    ahead = plan_tasks([{}], {"kind": "bounded_halo", "halo": 1, "ahead": 2}, 3, 3)
    assert ahead == [{"start": n, "end": n + 1, "halo": 1, "ahead": 2} for n in range(3)]
    assert plan_tasks([{"a": 1}], {"kind": "sequential"}, 1, 9) == [{"a": 1, "start": 0, "end": 9, "halo": 0}]
    assert plan_tasks([{"a": 1}, {"a": 2}], {"kind": "cartesian"}, 1, 9) == [{"a": 1}, {"a": 2}]
    assert plan_tasks([{}], data_axis({"kind": "independent"}), 9, 2)[1] == {"start": 1, "end": 2, "halo": 0}


@pytest.mark.parametrize(
    ("sweep", "axis", "count", "length", "sentence"),
    [
        ([{}], {"kind": "sequential"}, 2, 9, "cannot be split"),
        ([{}], {"kind": "cartesian"}, 2, 9, "cannot be split"),
        ([{}], {"kind": "sideways"}, 1, 9, "not a kind"),
        ([{}], {"kind": "bounded_halo"}, 1, 9, "needs a halo"),
        ([{}], {"kind": "independent", "halo": 1}, 1, 9, "has no halo"),
        ([{}], {"kind": "associative"}, 1, 9, "needs its monoid"),
        ([{}], {"kind": "associative", "monoid": "product"}, 1, 9, "needs its monoid"),
        ([{}], {"kind": "independent", "monoid": "sum"}, 1, 9, "only an associative"),
        ([{}], {"kind": "independent", "width": 1}, 1, 9, "an axis has no width"),
        ([{}], {"kind": "bounded_halo", "halo": 2, "halo_expr": "3"}, 1, 9, "give one"),
        ([{}], {"kind": "bounded_halo", "halo": True}, 1, 9, "is a number of rows"),
        ([{}], {"kind": "bounded_halo", "halo": {"rows": 3}}, 1, 9, "is a number of rows"),
        ([{"w": 3}], {"kind": "bounded_halo", "halo": "windw - 1"}, 1, 9, "'windw' is not a parameter.*there are: w"),
        ([{"w": 3}], {"kind": "bounded_halo", "halo": "1 - w"}, 1, 9, "is -2"),
        ([{"w": 3}], {"kind": "bounded_halo", "halo": -1}, 1, 9, "is -1"),
        ([{"w": "3"}], {"kind": "bounded_halo", "halo": "w"}, 1, 9, "not a number"),
        ([{"w": 2.5}], {"kind": "bounded_halo", "halo": "w"}, 1, 9, "not a whole number"),
        ([{"w": 0}], {"kind": "bounded_halo", "halo": "5 // w"}, 1, 9, "divides by zero"),
        ([], {"kind": "independent"}, 1, 9, "at least one"),
        ({}, {"kind": "independent"}, 1, 9, "at least one"),
        ([{"start": 3}], {"kind": "independent"}, 1, 9, "'start' names the rows"),
        ([{}], {"kind": "independent"}, 0, 9, "chunks is 0"),
        ([{}], {"kind": "independent"}, 1, 0, "series_length is 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(sweep, axis, count, length, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_tasks(sweep, axis, count, length)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "w.real",
        "w[0]",
        "[1][0]",
        "lambda: 1",
        "9 ** 9 ** 9",
        "w << 60",
        "1 if w else 2",
        "max(*w)",
        "max()",
        "min(1, key=w)",
        "open('x')",
        "f'{w}'",
        "'a' * 10",
        "True",
        "1j",
        "w / 2",
        "w = 3",
        "(x := 3)",
        "",
        "1 +",
        "(" * 400,
        "w\0",
        "1" + " + 1" * 200,
        "-" * 499 + "1",
        "999999999 * 999999999",
        "1e400 // 1",
    ],
)
def test_hostile_expressions_are_refused(expression):
    with pytest.raises(ValueError, match=r"halo|expr"):
        plan_tasks([{"w": 3}], {"kind": "bounded_halo", "halo": expression}, 2, 10)


@given(st.text(max_size=30))
def test_no_text_does_more_than_give_a_number_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert evaluate_rows("halo", text, {"a": 3, "b": 0.5}) >= 0


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_expressions_mean_what_python_means(a, b, c):
    point = {"a": a, "b": b, "c": c}
    for text in (
        "a + b * c",
        "(a + b) * c",
        "a // c + b",
        "max(a, b, c) - min(a, b, c)",
        "max(-a, 0) + +b",
        "a * 2 // 1",
    ):
        assert evaluate_rows("halo", text, point) == eval(text, {}, point), text


# The slice of a task.


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_what_is_loaded_and_what_is_left(start, size, halo, ahead, rest):
    rows = list(range(start + size + rest))
    end = start + size
    with series_slice(start, end, halo, ahead):
        loaded = load_series(rows)
        assert loaded == rows[max(0, start - halo) : end + ahead]
        assert trim_emission([row * 2 for row in loaded]) == [row * 2 for row in rows[start:end]]
        assert trim_emission({"a": np.array(loaded)})["a"].tolist() == rows[start:end]
        with pytest.raises(ValueError, match="a row of output for each row loaded"):
            trim_emission([*loaded, 0])
    assert load_series(rows) == rows
    assert trim_emission(rows) is rows


def test_a_series_that_is_too_short_is_refused():
    with series_slice(5, 10), pytest.raises(ValueError, match="ends at row 8"):
        load_series(list(range(8)))
    for bad in (5, iter([1]), {"a": 1}):
        with pytest.raises(ValueError, match="is no series"):
            load_series(bad)
    for start, end, halo in ((3, 2, 0), (-1, 2, 0), (0, 1, -1), (0, 1.5, 0), (True, 2, 0)):
        with pytest.raises(ValueError, match=r"end|whole number"), series_slice(start, end, halo):
            pass


def test_a_task_takes_its_slice_from_its_kwargs(monkeypatch):
    rows = list(range(10))
    monkeypatch.setenv("HPC_KW_JSON", json.dumps({"start": 4, "end": 6, "halo": 2, "ahead": 1, "alpha": 0.5}))
    assert load_series(rows) == [2, 3, 4, 5, 6]
    assert trim_emission(list("abcde")) == ["c", "d"]
    with series_slice(0, 1):
        assert load_series(rows) == [0]
    assert check_elision(lambda rows: rows, rows, {"kind": "independent"}).equal
    monkeypatch.setenv("HPC_KW_JSON", json.dumps({"start": "2020-01-01", "end": "2020-02-01"}))
    assert active_slice() is None
    monkeypatch.setenv("HPC_KW_JSON", json.dumps({"start": "4", "end": 6, "halo": 2}))
    with pytest.raises(ValueError, match="start is '4'"):
        active_slice()


class Frame:
    """As much of a pandas object as the kit uses: its rows are reached by position with iloc."""

    def __init__(self, rows):
        self.rows = rows
        self.iloc = self

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        assert isinstance(key, slice)
        return Frame(self.rows[key])

    def tolist(self):
        return self.rows


def test_pandas_objects_are_sliced_by_position():
    with series_slice(2, 4, 1):
        loaded = load_series(Frame(list("abcdef")))
        assert loaded.rows == ["b", "c", "d"]
        assert trim_emission(loaded).rows == ["c", "d"]


def test_pandas_itself():
    pandas = pytest.importorskip("pandas")
    rng = random.Random(3)
    rows = pandas.Series([rng.gauss(0, 1) for _ in range(300)])
    assert check_elision(lambda rows, window: rows.rolling(window).max(), rows, BACK, window=9).equal
    assert not check_elision(lambda rows, window: rows.rolling(window + 1).max(), rows, BACK, window=9).equal
    frame = pandas.DataFrame({"x": rows})
    assert check_elision(lambda frame: frame.shift(2), frame, {"kind": "bounded_halo", "halo": 2}).equal


def write_files(folder, rows):
    (folder / "rows.csv").write_text("x,note\n" + "".join(f'{row},"two\nlines"\n' for row in rows))
    (folder / "rows.jsonl").write_text("\n" + "".join(json.dumps(row) + "\n\n" for row in rows))
    np.save(folder / "rows.npy", np.array(rows))


def test_rows_of_files(tmp_path):
    rows = [n / 7 for n in range(20)]
    write_files(tmp_path, rows)
    for name, plain in (
        ("rows.csv", lambda loaded: [float(row["x"]) for row in loaded]),
        ("rows.jsonl", list),
        ("rows.npy", lambda loaded: loaded.tolist()),
    ):
        path = tmp_path / name
        assert series_length(path) == 20
        assert plain(load_series(str(path))) == rows
        with series_slice(5, 9, 2, 30):
            assert plain(load_series(path)) == rows[3:]
        run = lambda source, window, plain=plain: rolling(plain(load_series(source)), window, sum)
        assert check_elision(run, path, BACK, 4, window=3).equal
    with pytest.raises(ValueError, match="give a loader"):
        load_series(tmp_path / "rows.parquet")
    reader = lambda path: [len(line) for line in (tmp_path / path).read_text().splitlines()]
    with series_slice(1, 2):
        assert load_series("rows.jsonl", reader) == reader("rows.jsonl")[1:2]
    assert series_length("rows.jsonl", reader) == len(reader("rows.jsonl"))


# Joining.


@given(st.lists(st.integers(), min_size=1, max_size=40), chunks, st.randoms(use_true_random=False))
def test_parts_are_joined_in_the_order_of_their_rows(rows, count, rng):
    parts = [{"start": a, "values": rows[a:b]} for a, b in chunk_bounds(len(rows), count)]
    rng.shuffle(parts)
    assert join(parts, len(rows)) == rows
    assert join([(p["start"], np.array(p["values"], dtype=object)) for p in parts]).tolist() == rows
    assert join([(p["start"], {"x": p["values"]}) for p in parts]) == {"x": rows}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ([], "no parts"),
        ([(1, [1])], "row 0 was expected"),
        ([(0, [1]), (2, [1])], "row 1 was expected"),
        ([(0, [1, 2]), (1, [1])], "row 2 was expected"),
        ([(0, [1, 2])], "the series at row 3"),
        ([(0, {"a": [1], "b": [1, 2]})], "different lengths"),
        ([(0, {"a": [1]}), (1, {"b": [1]})], "different columns"),
        ([(0, SUM.cumulative([1])), (1, MAX.cumulative([1]))], "different ways"),
        ([("0", [1])], "no row"),
    ],
)
def test_parts_that_are_missing_twice_or_of_different_kinds_are_refused(parts, sentence):
    with pytest.raises(ValueError, match=sentence):
        join(parts, 3 if "row 3" in sentence else None)
