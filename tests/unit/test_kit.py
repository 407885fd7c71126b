"""@register_run: a plain function still, a command line, and the task of a run."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpc_agent
from hpc_agent.experiment_kit import register_run, write_metrics
from hpc_agent.experiment_kit.notebooks import code_cells, parameters_cell, python_of
from hpc_agent.experiment_kit.registered_functions import call, parser_of, read_kw_env
from hpc_agent.experiment_kit.task import load_function
from hpc_agent.infra.remote import kit_files
from hpc_agent.node.job import metrics

CLI = Path(hpc_agent.__file__).parent / "models/mapreduce/templates/scaffolds/cli.py"
spec = importlib.util.spec_from_file_location("scaffold_cli", CLI)
cli = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cli)


@register_run
def train(horizon: int, alpha: float = 0.5, fast: bool = False, names: "list[str]" = (), note=None):
    return {"score": horizon * alpha, "fast": fast, "names": list(names), "note": note}


def test_it_stays_a_plain_function():
    assert train(2)["score"] == 1.0
    assert globals()["_RUNS"]["train"] is train
    assert globals()["compute"](argparse.Namespace(horizon=4, alpha=1.0))["score"] == 4.0


def test_calls_are_checked():
    assert call(train, {"horizon": 2, "executor": "train"})["score"] == 1.0
    with pytest.raises(TypeError, match="no parameter horizn"):
        call(train, {"horizn": 2})
    with pytest.raises(TypeError, match="missing"):
        call(train, {})
    assert call(lambda: 3.5, {}) == {"value": 3.5}
    assert call(lambda: None, {}) == {}
    with pytest.raises(TypeError, match="return a dict of numbers"):
        call(lambda: "text", {})


def test_what_cannot_be_named_is_refused():
    with pytest.raises(TypeError, match="cannot be given by name"):
        register_run(lambda *rest: rest)
    with pytest.raises(TypeError, match="no option"):
        register_run(color="red")


def test_the_signature_becomes_flags():
    options = vars(parser_of(train).parse_args('--horizon 3 --fast --names a b --note {"a":1}'.split()))
    del options["output_file"]
    assert options == {"horizon": 3, "alpha": 0.5, "fast": True, "names": ["a", "b"], "note": {"a": 1}}
    assert vars(parser_of(train).parse_args("--horizon 3 --fast false".split()))["fast"] is False
    with pytest.raises(SystemExit):
        parser_of(train).parse_args(["--horizon", "x"])


def test_metrics_of_numpy_are_plain(tmp_path):
    numpy = pytest.importorskip("numpy")
    write_metrics({"a": numpy.float32(1.5), "b": numpy.arange(2), "c": {"d": numpy.int64(3)}}, str(tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": 1.5, "b": [0, 1], "c": {"d": 3}}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert read_kw_env({"HPC_KW_JSON": '{"a": 1}'}) == {"a": 1}


def test_a_file_of_its_own_as_a_command(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(
        "from hpc_agent.experiment_kit import register_run, main\n\n@register_run\ndef go(n: int):\n    return {'n': n}\n\n"
        "if __name__ == '__main__':\n    raise SystemExit(main())\n"
    )
    done = subprocess.run([sys.executable, script, "--n", "4"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"n": 4})
    wrong = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30)
    assert (wrong.returncode, "--n" in wrong.stderr) == (2, True)


def test_modules_of_packages_scripts_and_notebooks_are_loaded(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/base.py").write_text("X = 2\n")
    (tmp_path / "pkg/mod.py").write_text("from .base import X\ndef f(): return X\n")
    (tmp_path / "json.py").write_text("def f(): return 'mine'\nif __name__ == '__main__': raise SystemExit\n")
    cells = ["%magic\nY = 5", "def f(): return Y", "raise SystemExit"]
    document = {"cells": [{"cell_type": "code", "source": cell, "metadata": {}} for cell in cells]}
    (tmp_path / "n.ipynb").write_text(json.dumps(document))
    assert load_function("pkg/mod.py:f", str(tmp_path))() == 2
    assert load_function("json.py:f", str(tmp_path))() == "mine"
    assert load_function("n.ipynb:f", str(tmp_path))() == 5
    with pytest.raises(ImportError, match="no function g"):
        load_function("json.py:g", str(tmp_path))


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("x = 1", "x = 1"),
        ("%time x = 1\ny = 2", "\ny = 2"),
        ("if a:\n    !ls\n    b()", "if a:\n    pass\n    b()"),
        ("files = !ls", "files = None"),
        ('s = """\n%not\n"""\n%yes', 's = """\n%not\n"""\n'),
        ("y = (a\n     % b)", "y = (a\n     % b)"),
        ("y = a \\\n  % b", "y = a \\\n  % b"),
        ("%%bash\nrm x", "\n"),
        ("%%time\nx = 1", "\nx = 1"),
        ("f?\n?f", "\n"),
        ("get_ipython().run_line_magic('matplotlib', 'inline')\nx = 1", "\nx = 1"),
        ("if a:\n    get_ipython().system('ls')\n    b()", "if a:\n    pass\n    b()"),
        ("files = get_ipython().getoutput('ls')", "files = None"),
        ("get_ipython().system(\n  'ls'\n)\ny = 2", "\n\n\ny = 2"),
        ("get_ipython().run_cell_magic('bash', '', 'rm x\\n')", ""),
        ("get_ipython().run_cell_magic('time', '', 'x = 1\\n')", "exec('x = 1\\n')"),
        ("get_ipython().magic('gui'); x = 2", "(lambda *_: None)('gui'); x = 2"),
        ('s = """\nget_ipython().system(\'ls\')\n"""', 's = """\nget_ipython().system(\'ls\')\n"""'),
    ],
)
def test_magics_leave_the_lines_where_they_are(cell, python):
    assert python_of(cell) == python
    compile(python_of(cell), "cell", "exec")


@pytest.mark.parametrize("part", [{"source": 5}, {"source": [1]}, {"metadata": [1]}, {"metadata": {"tags": 5}}])
def test_a_cell_of_another_form_is_told(part):
    with pytest.raises(ValueError, match="cell 0 has not the form"):
        code_cells(json.dumps({"cells": [{"cell_type": "code", **part}]}))


def test_the_kit_of_a_run_has_the_decorator_under_its_short_name(tmp_path):
    for name, text in kit_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\nfrom hpc_agent import register_run, write_metrics"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert hpc_agent.register_run is register_run


def test_a_whole_notebook_runs_with_its_parameters(tmp_path):
    cells = [("import json, os\nlr = 0.1\nsteps = 2", ["parameters"]), ("get_ipython().system('ls')", []),
             ("json.dump({'loss': lr * steps}, open(os.environ['OUT'], 'w'))", [])]  # fmt: skip
    made = [{"cell_type": "code", "source": cell, "metadata": {"tags": tags}} for cell, tags in cells]
    (tmp_path / "study.ipynb").write_text(json.dumps({"cells": made}))
    assert parameters_cell((tmp_path / "study.ipynb").read_text()) == 0
    code = "from hpc_agent.experiment_kit.task import run_notebook\n"
    code += f"run_notebook('study.ipynb', {str(tmp_path)!r}, {{'lr': 0.5}})"
    environment = {**os.environ, "OUT": str(tmp_path / "out.json")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert json.loads((tmp_path / "out.json").read_text()) == {"loss": 1.0}


def test_what_is_no_notebook_is_told():
    with pytest.raises(ValueError, match="cells"):
        code_cells("{}")


# argparse itself loses a value that is nothing but two dashes.
TEXT = st.text().filter(lambda text: "\0" not in text and text != "--")
FLAGS = [
    {"name": "n", "option": "--n", "type": "int"},
    {"name": "x", "option": "--x", "type": "float"},
    {"name": "text", "option": "--text", "type": "str"},
    {"name": "on", "option": "--on", "type": "bool", "action": "store_true"},
    {"name": "off", "option": "--off", "type": "bool", "action": "store_false"},
    {"name": "maybe", "option": "--maybe", "type": "bool", "action": "boolean_optional"},
    {"name": "many", "option": "--many", "type": "int", "nargs": "+"},
    {"name": "again", "option": "--again", "type": "str", "action": "append"},
    {"name": "v", "option": "-v", "type": "int", "action": "count"},
    {"name": "first", "type": "str"},
]


@given(
    st.fixed_dictionaries(
        {
            "n": st.integers(),
            "x": st.floats(allow_nan=False, allow_infinity=False),
            "text": TEXT,
            "on": st.booleans(),
            "off": st.booleans(),
            "maybe": st.booleans(),
            "many": st.lists(st.integers(0), min_size=1, max_size=3),
            "again": st.lists(TEXT, min_size=1, max_size=3),
            "v": st.integers(0, 3),
            "first": st.text("abc", min_size=1),
        }
    )
)
def test_a_command_line_gives_back_the_parameters(kwargs):
    parser = argparse.ArgumentParser()
    parser.add_argument("first")
    parser.add_argument("--n", type=int)
    parser.add_argument("--x", type=float)
    parser.add_argument("--text")
    parser.add_argument("--on", action="store_true")
    parser.add_argument("--off", action="store_false")
    parser.add_argument("--maybe", action="store_true")
    parser.add_argument("--no-maybe", dest="maybe", action="store_false")
    parser.add_argument("--many", type=int, nargs="+")
    parser.add_argument("--again", action="append")
    parser.add_argument("-v", action="count", default=0)
    assert vars(parser.parse_args(cli.command_line(FLAGS, kwargs))) == kwargs


def test_the_output_is_the_tasks_own_and_none_is_left_out(monkeypatch):
    monkeypatch.setenv("HPC_RESULT_DIR", "/r")
    flags = [{"name": "o", "option": "-o", "type": "str", "value": "$HPC_RESULT_DIR/metrics.json"}, FLAGS[0]]
    assert cli.command_line(flags, {"n": None, "o": "ignored"}) == ["-o", "/r/metrics.json"]
    assert cli.words_of({"option": "--b", "type": "bool"}, False) == ["--b="]


class LongDouble:
    """As numpy.longdouble: more digits than a float, so ``item()`` is no Python number."""

    def item(self):
        return self

    def __str__(self):
        return "0.33333333333333333334"


def test_what_json_cannot_hold_reaches_the_metrics_as_text_that_is_named(tmp_path):
    write_metrics({"third": LongDouble(), 1: 0.5, "1": 0.7, "loss": 2}, str(tmp_path))
    found = metrics.read(str(tmp_path), None)
    assert (found.values, [told["field"] for told in found.left_out]) == ({"loss": 2}, ["third", "1"])
