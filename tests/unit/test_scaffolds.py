import ast
import json
import keyword
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.scaffolds import (
    DEFAULT_FLAGS,
    SCAFFOLDS,
    TAKEN,
    TAKEN_FLAGS,
    check_module_name,
    command_of,
    executor_source,
    parse_flags,
)
from hpc_agent.node.shared.task_environment import load_tasks
from hpc_agent.ops.author.starters import skeleton

MANY = [
    "horizon:int=5", "alpha:float=0.1", "name:str", "verbose:bool=false", "a_rather_long_name:str=it's \"so\" \\ $x é",
    "path:str=", "deep:bool",
]  # fmt: skip
FLAG_SETS = {"two": DEFAULT_FLAGS, "none": [], "many": MANY, "one": ["text:str"]}
SHAPES = ["argparse", "register-run", "notebook"]


def python_of(shape, text):
    if shape != "notebook":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def function_of(source, name):
    return next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name)


def run_argparse(source, arguments):
    namespace = {"__name__": "starter", "__doc__": "starter"}
    exec(compile(source, "starter", "exec"), namespace)
    namespace["main"](arguments)


HOSTILE = [
    "../x", "/x", "C:\\x", "a b", "a-b", "x;y", "", "1a", "_a", "é", "a.py", "a\n", "x" * 61, "class", "None", "json",
    "random", "argparse", "sum", "hpc_agent", "main", "options",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused(name):
    with pytest.raises(SpecInvalid) as caught:
        check_module_name(name, "name", TAKEN)
    assert caught.value.field == "name"
    assert "hpc-agent" in caught.value.remediation


@pytest.mark.parametrize("name", ["ridge", "a", "Ridge_2", "match", "x" * 60])
def test_a_usual_name_is_taken_as_it_is(name):
    assert check_module_name(name, "name", TAKEN) == name


BAD_FLAGS = [
    "horizon", "horizon:", "horizon:real", "horizon:int=x", "horizon:int=1.5", "a b:int", "a-b:int", ":int", "class:int",
    "help:str", "output_file:str", "x:float=nan", "x:float=inf", "x:bool=yes", "x:int=", "x:str=a\nb", "_x:int", "", "=3",
]  # fmt: skip


@pytest.mark.parametrize("word", BAD_FLAGS)
def test_a_bad_flag_is_refused_and_named(word):
    with pytest.raises(SpecInvalid) as caught:
        parse_flags(["fine:int=1", word])
    assert caught.value.field == "flags"
    assert repr(word) in caught.value.message


@pytest.mark.parametrize("words", [["x:int", "x:str"], ["x:int", "X:int"]])
def test_two_flags_that_would_be_one_variable_are_refused(words):
    with pytest.raises(SpecInvalid):
        parse_flags(words)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(
    lambda name: name not in TAKEN_FLAGS and not keyword.iskeyword(name)
)
DEFAULTS = st.one_of(
    st.tuples(st.just("int"), st.integers()),
    st.tuples(st.just("float"), st.floats(allow_nan=False, allow_infinity=False)),
    st.tuples(st.just("bool"), st.booleans()),
    st.tuples(st.just("str"), st.text().filter(str.isprintable)),
)


@given(st.dictionaries(NAMES, DEFAULTS, max_size=6))
def test_the_signature_has_the_flags_with_their_types_and_values(wanted):
    flags = parse_flags([f"{name}:{kind}={value}" for name, (kind, value) in wanted.items()])
    for shape in SHAPES:
        function = function_of(python_of(shape, executor_source("study", shape, flags)), "study")
        arguments = function.args.args
        assert [argument.arg for argument in arguments] == list(wanted)
        assert [ast.unparse(argument.annotation) for argument in arguments] == [kind for kind, _ in wanted.values()]
        assert [ast.literal_eval(default) for default in function.args.defaults] == [
            value for _, value in wanted.values()
        ]


def test_required_flags_come_first_because_python_wants_it_so():
    assert [flag.name for flag in parse_flags(MANY)][:2] == ["name", "deep"]


@pytest.mark.parametrize("limit", ["88", "120"])
def test_every_starter_is_formatted_and_linted(tmp_path, limit):
    for label, words in FLAG_SETS.items():
        for name in (label, label + "_" + "x" * 50):
            for shape in SHAPES:
                ending = "ipynb" if shape == "notebook" else "py"
                path = tmp_path / f"{name}_{shape}.{ending}"
                path.write_text(executor_source(name, shape, parse_flags(words)), encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run(
            [*ruff, *command, "--isolated", "--no-cache", "--line-length", limit, str(tmp_path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_argparse_starter_runs_on_python_3_6(tmp_path):
    path = tmp_path / "many.py"
    path.write_text(executor_source("many", "argparse", parse_flags(MANY)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from vermin import main; main()", "-t=3.6-", "--no-tips", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_argparse_starter_prints_or_writes_what_it_computes(tmp_path, monkeypatch, capsys):
    source = executor_source("study", "argparse", parse_flags(DEFAULT_FLAGS))
    scores = {}
    for horizon in (0, 1, 25):
        run_argparse(source, ["--horizon", str(horizon)])
        scores[horizon] = json.loads(capsys.readouterr().out)["score"]
    assert scores[0] < 0.01 < scores[1] < scores[25]
    monkeypatch.setenv("HPC_RESULT_DIR", str(tmp_path))
    run_argparse(source, ["--horizon", "1"])
    assert json.loads((tmp_path / "metrics.json").read_text())["score"] == scores[1]
    run_argparse(source, ["--horizon=25", "--output-file", str(tmp_path / "mine.json")])
    assert json.loads((tmp_path / "mine.json").read_text())["score"] == scores[25]
    assert json.loads((tmp_path / "metrics.json").read_text())["score"] == scores[1]
    assert capsys.readouterr().out == ""
    run_argparse(source, ["--alpha", "1e6", "--horizon", "1", "--output-file", str(tmp_path / "flat.json")])
    assert json.loads((tmp_path / "flat.json").read_text())["score"] > scores[1]


@pytest.mark.parametrize(
    ("words", "value"), [(["--x"], True), (["--x", "True"], True), (["--x=false"], False), ([], False)]
)
def test_the_argparse_starter_reads_a_bool_as_a_task_gets_it(words, value, capsys):
    source = executor_source("study", "argparse", parse_flags(["x:bool=false"]))
    seen = []
    namespace = {"__name__": "starter", "__doc__": ""}
    exec(compile(source, "starter", "exec"), namespace)
    namespace["study"] = lambda x: seen.append(x)
    namespace["main"](words)
    assert seen == [value]
    with pytest.raises(SystemExit):
        namespace["main"](["--x", "perhaps"])
    assert "neither true nor false" in capsys.readouterr().err


def test_the_command_names_the_variables_of_a_task():
    flags = parse_flags(["learning_rate:float=0.1", "path:str=x"])
    assert command_of("executors/a.py", flags) == (
        'python3 executors/a.py --learning-rate "$LEARNING_RATE" --path "$HPC_KW_PATH" '
        '--output-file "$HPC_RESULT_DIR/metrics.json"'
    )


def check_notebook(text):
    """The rules of nbformat 4.5 that matter here: required keys, and ids that are unique and well-formed."""
    document = json.loads(text)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(0 < len(i) <= 64 and i.replace("-", "").replace("_", "").isalnum() for i in ids)
    for cell in document["cells"]:
        wanted = {"id", "cell_type", "metadata", "source"}
        wanted |= {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == wanted
    assert text == json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_notebooks_are_notebooks():
    check_notebook(executor_source("study", "notebook", parse_flags(MANY)))
    check_notebook(skeleton("notebook", "study")["notebooks/train.ipynb"])


SCRIPT_FILES = [
    ".github/workflows/ci.yml", ".gitignore", ".hpc/tasks.py", ".hpcignore", "Makefile", "README.md", "data/README.md",
    "executors/train.py", "lib/__init__.py", "lib/loading.py", "pyproject.toml", "tests/conftest.py", "tests/test_train.py",
]  # fmt: skip


def test_the_skeletons_have_their_files():
    assert list(skeleton("script", "study")) == SCRIPT_FILES
    assert list(skeleton("notebook", "study")) == sorted([*SCRIPT_FILES, "notebooks/train.ipynb"])
    for shape in ("script", "notebook"):
        texts = skeleton(shape, "my-study")
        assert 'name = "my-study"' in texts["pyproject.toml"]
        assert texts["README.md"].startswith("# my-study\n")
        assert not any("EXPERIMENT_NAME" in text for text in texts.values())


def test_the_templates_are_stored_under_names_that_package_data_takes_along():
    stored = [path.relative_to(SCAFFOLDS) for path in SCAFFOLDS.glob("template_*/**/*") if path.is_file()]
    assert len(stored) > len(SCRIPT_FILES)
    assert not [path for path in stored if any(part.startswith(".") for part in path.parts)]


def test_the_grid_is_two_by_three_and_fits_the_flags(tmp_path):
    texts = skeleton("script", "study")
    (tmp_path / "tasks.py").write_text(texts[".hpc/tasks.py"])
    tasks = load_tasks(str(tmp_path / "tasks.py"))
    grid = [tasks.resolve(i) for i in range(tasks.total())]
    assert len(grid) == 6
    assert [len({task[name] for task in grid}) for name in ("horizon", "alpha")] == [3, 2]
    for name in grid[0]:
        assert f'"--{name}"' in texts["executors/train.py"]
        assert f'--{name} "$${name.upper()}"' in texts["Makefile"]


def test_the_notebook_and_the_script_compute_the_same():
    """Both skeletons share their tests, so they must share their numbers."""
    texts = skeleton("notebook", "study")
    script = function_of(skeleton("script", "study")["executors/train.py"], "train")
    notebook = function_of(python_of("notebook", texts["notebooks/train.ipynb"]), "train")
    assert [ast.dump(a) for a in script.body[1:]] == [ast.dump(a) for a in notebook.body[1:]]
    assert math.prod(len(f.args.args) for f in (script, notebook)) == 4
