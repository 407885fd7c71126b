"""Every generator: the tasks it counts are the tasks that its Python makes; hostile values stay values."""

import ast
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.grid.axis_values import Axes
from hpc_agent.experiment.grid.generators import TaskGenerator, make_source
from hpc_agent.experiment.grid.literals import literal
from hpc_agent.experiment.series.chunked_tasks import ChunkedAxis, split_series
from hpc_agent.experiment.writing.tasks_file import render, sign, untouched
from hpc_agent.ops.author.starters import GENERATORS

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
NAMES = st.sampled_from(["alpha", "horizon", "seed_", "data_path", "PATH", "class_"])


def run(text, folder):
    """The tasks of a rendered tasks.py."""
    namespace = {"__file__": str(folder / ".hpc" / "tasks.py")}
    exec(compile(text, "tasks.py", "exec"), namespace)
    return [namespace["resolve"](i) for i in range(namespace["total"]())]


def source_of(kind, params, root, fixed=None):
    return make_source(TaskGenerator(kind, params), root, fixed)


@given(
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20),
    st.integers(0, 8),
)
def test_a_literal_reads_back_as_it_was(value, indent):
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert ast.literal_eval(literal(value, indent)) == value


VALUES = st.lists(st.integers(-9, 9) | st.text("abc'\"\\\n$`", max_size=6), min_size=1, max_size=4, unique_by=repr)


@given(axes=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3))
def test_the_product_of_axes(axes, tmp_path_factory):
    root = tmp_path_factory.mktemp("repo")
    source = source_of("cartesian_product", {"axes": axes}, root)
    made = run(render(source, {}, {}, "python3"), root)
    assert made == list(source.make())
    assert len(made) == source.count == math.prod(map(len, axes.values()))
    assert len({json.dumps(task, sort_keys=True) for task in made}) == source.count


@pytest.mark.parametrize(
    ("kind", "params", "first", "last", "count"),
    [
        ("enumerated", {"items": [{"a": 1}, {"b": "x"}]}, {"a": 1}, {"b": "x"}, 2),
        (
            "items_x_seeds",
            {"items": [{"m": "r"}, {"m": "b"}], "seeds": [7, 8]},
            {"m": "r", "seed": 7},
            {"m": "b", "seed": 8},
            4,
        ),
        ("numeric_logspace", {"param": "lr", "low": 0.001, "high": 1, "n": 4}, {"lr": 0.001}, {"lr": 1.0}, 4),
        ("numeric_linspace", {"param": "x", "low": -1, "high": 1, "n": 5}, {"x": -1.0}, {"x": 1.0}, 5),
    ],
)
def test_each_kind(kind, params, first, last, count, tmp_path):
    source = source_of(kind, params, tmp_path, {"data": "d.csv"})
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert (made[0], made[-1], len(made), source.count) == (
        {**first, "data": "d.csv"},
        {**last, "data": "d.csv"},
        count,
        count,
    )
    assert made == list(source.make())


def test_log_spaced_values_are_the_ones_a_person_would_write(tmp_path):
    source = source_of("numeric_logspace", {"param": "lr", "low": 1e-4, "high": 1, "n": 5}, tmp_path)
    assert [task["lr"] for task in source.make()] == [0.0001, 0.001, 0.01, 0.1, 1.0]


@pytest.mark.parametrize("kind", ["numeric_logspace", "numeric_linspace"])
@given(low=st.floats(1e-6, 1.0), width=st.floats(1e-3, 1e6), n=st.integers(2, 40))
def test_values_of_a_range_keep_all_their_digits(kind, low, width, n, tmp_path_factory):
    params = {"param": "x", "low": low, "high": low + width, "n": n}
    made = [task["x"] for task in source_of(kind, params, tmp_path_factory.getbasetemp()).make()]
    assert (made[0], made[-1], len(made)) == (low, low + width, n)
    exact = [Fraction(value) for value in made]
    for left, middle, right in zip(exact, exact[1:], exact[2:], strict=False):
        between = left * right if kind == "numeric_logspace" else (left + right) / 2
        assert abs((middle**2 if kind == "numeric_logspace" else middle) / between - 1) < 1e-15


AXES = {"alpha": {"logspace": [1e-4, 10, 6]}, "seed": {"range": [3]}, "share": {"linspace": [0, 1, 3]}, "model": ["a"]}


def test_an_axis_may_be_a_range(tmp_path):
    source = source_of("cartesian_product", {"axes": AXES}, tmp_path)
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert made == list(source.make())
    assert list(dict.fromkeys(task["alpha"] for task in made)) == [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0]
    assert made[:4] == [{"alpha": 0.0001, "seed": 0, "share": share, "model": "a"} for share in (0.0, 0.5, 1.0)] + [
        {"alpha": 0.0001, "seed": 1, "share": 0.0, "model": "a"}
    ]
    assert source.about == "6 alpha x 3 seed x 3 share x 1 model"


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_generator_composes_with_a_product(kind, tmp_path):
    (tmp_path / ".hpc").mkdir()
    (tmp_path / "runs.csv").write_text("x,name\n1,a\n2,b\n")
    params = {**GENERATORS[kind], **({"path": "runs.csv"} if kind == "from_manifest" else {})}
    axes = convert({"fold": [0, 1, 2], "cut": {"linspace": [0.5, 1, 2]}}, Axes)
    alone = list(make_source(TaskGenerator(kind, params), tmp_path).make())
    source = make_source(TaskGenerator(kind, params), tmp_path, {"data": "d.csv"}, axes)
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert made == list(source.make())
    assert sorted(json.dumps(task, sort_keys=True) for task in made) == sorted(
        json.dumps({**task, "fold": fold, "cut": cut, "data": "d.csv"}, sort_keys=True)
        for task in alone
        for fold in (0, 1, 2)
        for cut in (0.5, 1.0)
    )
    name = next(iter(alone[0]))
    with pytest.raises(SpecInvalid, match=repr(name)):
        make_source(TaskGenerator(kind, params), tmp_path, None, {name: [1]})


def test_a_manifest_keeps_digits_that_no_float_holds(tmp_path):
    (tmp_path / "runs.csv").write_text(
        "a,b,c,d\n0.12345678901234567890123,1.10,1e-5,123456789012345678901234567890\n1e400,0.1,-0.0,7\n"
    )
    (tmp_path / ".hpc").mkdir()
    source = source_of("from_manifest", {"path": "runs.csv"}, tmp_path)
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert made == list(source.make())
    assert made[0] == {"a": "0.12345678901234567890123", "b": 1.1, "c": 1e-5, "d": 123456789012345678901234567890}
    assert made[1] == {"a": "1e400", "b": 0.1, "c": -0.0, "d": 7}


@pytest.mark.parametrize("kind", ["latin_hypercube", "sobol"])
def test_samples_are_drawn_once_and_lie_in_their_ranges(kind, tmp_path):
    pytest.importorskip("scipy")
    ranges = {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "depth": {"low": 2, "high": 8, "integer": True}}
    source = source_of(kind, {"ranges": ranges, "n": 16, "seed": 3}, tmp_path)
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert len(made) == 16
    assert all(1e-4 <= task["lr"] <= 1 and task["depth"] in range(2, 9) for task in made)
    assert sum(task["lr"] < 0.01 for task in made) == 8  # half of the orders of magnitude
    assert render(source_of(kind, {"ranges": ranges, "n": 16, "seed": 3}, tmp_path), {}, {}, "python3") == render(
        source, {}, {}, "python3"
    )


def test_manifests_are_read_where_they_lie(tmp_path):
    (tmp_path / "runs.csv").write_text('name,n,ok,text\na,1,true,01\n"b,c",2.5,false,null\n', encoding="utf-8")
    (tmp_path / ".hpc").mkdir()
    source = source_of("from_manifest", {"path": "runs.csv"}, tmp_path, {"fixed": 1})
    made = run(render(source, {}, {}, "python3"), tmp_path)
    assert made == list(source.make())
    assert made[0] == {"name": "a", "n": 1, "ok": True, "text": "01", "fixed": 1}
    assert made[1] == {"name": "b,c", "n": 2.5, "ok": False, "text": None, "fixed": 1}
    (tmp_path / "runs.jsonl").write_text('{"a": [1, 2]}\n\n{"a": null}\n', encoding="utf-8")
    assert run(render(source_of("from_manifest", {"path": "runs.jsonl"}, tmp_path), {}, {}, "python3"), tmp_path) == [
        {"a": [1, 2]},
        {"a": None},
    ]
    only = source_of("from_manifest", {"path": "runs.csv", "columns": ["n"]}, tmp_path)
    assert run(render(only, {}, {}, "python3"), tmp_path) == [{"n": 1}, {"n": 2.5}]


def test_many_listed_tasks_get_a_file_of_their_own(tmp_path):
    items = [{"x": number} for number in range(1500)]
    source = source_of("enumerated", {"items": items}, tmp_path)
    (tmp_path / ".hpc").mkdir()
    (tmp_path / ".hpc" / "tasks.jsonl").write_text(source.manifest)
    text = render(source, {}, {}, "python3")
    assert len(text) < 1500
    assert run(text, tmp_path) == items


@pytest.mark.parametrize(
    ("kind", "params", "field"),
    [
        ("cartesian_product", {"axes": {}}, "axes"),
        ("cartesian_product", {"axes": {"a": []}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": [1, 1]}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": [None, None]}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": {"logspace": [0, 1, 3]}}}, "axes.a.logspace.low"),
        ("cartesian_product", {"axes": {"a": {"linspace": [0, 1]}}}, "axes"),
        ("cartesian_product", {"axes": {"a": {"linspace": [0, 1, 3], "range": [3]}}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": {}}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": {"range": [1, 5, 0]}}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": {"range": [5, 1]}}}, "axes.a"),
        ("cartesian_product", {"axes": {"a": {"range": [10**12]}}}, "axes.a"),
        ("cartesian_product", {"axes": {"a b": [1]}}, "params"),
        ("cartesian_product", {"axes": {"a": ["x\0y"]}}, "params"),
        ("cartesian_product", {"axes": {"a": [1], "A": [2]}}, "params"),
        ("cartesian_product", {"axes": {"a": list(range(1001)), "b": list(range(1000))}}, "params"),
        ("cartesian_product", {"ax": {}}, "ax"),
        ("enumerated", {"items": []}, "params"),
        ("enumerated", {"items": [{"a": "\ud800"}]}, "params"),
        ("items_x_seeds", {"items": [{"seed": 1}], "seeds": [1]}, "items"),
        ("items_x_seeds", {"items": [{"a": 1}], "seeds": ["x"]}, "seeds"),
        ("numeric_logspace", {"param": "a", "low": 0, "high": 1, "n": 3}, "low"),
        ("numeric_logspace", {"param": "a", "low": 1, "high": 1, "n": 3}, "low"),
        ("numeric_linspace", {"param": "a", "low": 0, "high": 1, "n": 1}, "n"),
        ("numeric_linspace", {"param": "1a", "low": 0, "high": 1, "n": 2}, "params"),
        ("from_manifest", {"path": "../outside.csv"}, "path"),
        ("from_manifest", {"path": "missing.csv"}, "path"),
        ("sobol", {"ranges": {"a": {"low": 1, "high": 0}}, "n": 4}, "ranges.a"),
    ],
)
def test_what_is_wrong_is_named(kind, params, field, tmp_path):
    with pytest.raises(SpecInvalid) as raised:
        source_of(kind, params, tmp_path)
    assert str(raised.value.field).endswith(field), raised.value.field
    assert (
        "hpc-agent" in raised.value.remediation
        or "call again" in raised.value.remediation
        or "repo" in raised.value.remediation
    )


def test_fixed_and_varied_is_refused(tmp_path):
    with pytest.raises(SpecInvalid, match="both fixed and varied"):
        source_of("cartesian_product", {"axes": {"a": [1]}}, tmp_path, {"a": 2})


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="\r"), min_size=1))
def test_a_signature_fits_its_text_alone(tail):
    text = sign('"""What to run."""\n\nTASKS = [1]\n')
    assert untouched(text)
    assert not untouched(text + tail)
    assert not untouched(text.replace("TASKS = [1]", "TASKS = [2]"))


def test_a_series_is_split_for_every_point(tmp_path):
    points = source_of("cartesian_product", {"axes": {"window": [5, 20]}}, tmp_path)
    split = split_series(points, ChunkedAxis(kind="bounded_halo", chunks=4, series_length=1000, halo="window - 1"))
    made = run(render(split, {}, {}, "python3"), tmp_path)
    assert len(made) == split.count == 8
    assert [task["halo"] for task in made if task["window"] == 5][1:] == [4, 4, 4]
    assert {(task["start"], task["end"]) for task in made} == {(0, 250), (250, 500), (500, 750), (750, 1000)}
    same = split_series(points, ChunkedAxis(kind="independent", chunks=4, series_length=1000))
    text = render(same, {}, {}, "python3")
    assert "for chunk in CHUNKS" in text
    assert run(text, tmp_path) == list(same.make())
    with pytest.raises(SpecInvalid):
        split_series(points, ChunkedAxis(kind="bounded_halo", chunks=4, series_length=1000, halo="nothing"))


@pytest.mark.parametrize(
    ("axes", "field", "told"),
    [
        ({"opt.lr": [1]}, "axes", "write 'opt__lr'"),
        ({"learning-rate": [1]}, "axes", "write 'learning_rate'"),
        ({"$(touch x)": [1]}, "axes", "not a valid variable name"),
        ({"n": [1, True]}, "axes.n", "1 and true, which are the same value"),
        ({"n": [1, 1.0]}, "axes.n", "1 and 1.0, which are the same value"),
        ({"n": ["a", "a"]}, "axes.n", '"a" twice'),
        ({"lr": {"range": [0, 1, 0.1]}}, "axes.lr.range", '{"linspace": [0.0, 0.9, 10]}'),
        ({"lr": {"range": [2.5]}}, "axes.lr.range", '{"linspace": [0.0, 2.0, 3]}'),
        ({"lr": {"range": [0, 1, -0.5]}}, "axes.lr.range", "write linspace"),
        ({"lr": {"logspace": [-4, 0, 5]}}, "axes.lr.logspace.low", "values, not exponents"),
    ],
)
def test_an_axis_that_is_wrong_is_named_with_what_is_right(tmp_path, axes, field, told):
    with pytest.raises(SpecInvalid) as caught:
        make_source(None, tmp_path, None, convert(axes, Axes))
    assert (caught.value.field, told in caught.value.message) == (field, True), caught.value.message
    assert caught.value.remediation.startswith("Correct the axes ")
