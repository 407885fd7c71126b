"""Libraries that read a command line: the parameters of a script, and the words that the library reads them from."""
# ruff: noqa: E501 - a source stands in one line

import importlib.util
import json
import sys
import textwrap
from pathlib import Path

import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.reading import discovery, modules
from hpc_agent.experiment.reading.child_process import keys_in, options_in
from hpc_agent.experiment.reading.discovery import find_executors, script_facts
from hpc_agent.experiment.reading.executors import executor_at
from hpc_agent.experiment.reading.parameters import check_kwargs, flag_rows
from hpc_agent.infra.backends import TEMPLATES
from hpc_agent.ops.author.build_tasks import build_tasks_command
from hpc_agent.ops.author.parameter_ways import with_ways
from hpc_agent.world import World

DATA = Path(__file__).parents[1] / "data/command_lines"
CONFIG = """
defaults:
  - model: small
  - _self_
lr: 1e-3
name: a
sizes: [1,2]
opt:
  wd: 0.1
  betas: {a: 1}
"""
FILES = {
    "hydra": {"conf/config.yaml": CONFIG, "conf/model/small.yaml": "width: 3\n", "conf/model/big.yaml": "width: 9\ndepth: 2\n"},
    "exec": {"configurator.py": (DATA / "exec.configurator.txt").read_text()},
}  # fmt: skip


def repo(folder, **files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def recorded(folder, name):
    return repo(folder, **{"main.py": (DATA / f"{name}.txt").read_text(), **FILES.get(name, {})})


def cli():
    spec = importlib.util.spec_from_file_location("task_cli", TEMPLATES / "scaffolds/cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Each of these lines was given to the real program, which printed the same parameters.
SPELT = [
    ("tyro", {"req": 3, "must": False, "env_id": "-a b", "track": True, "torch_det": False, "sizes": [3, 4], "opt__lr": -2,
              "opt__fused_adam": True},
     ["--req=3", "--must=False", "--env-id=-a b", "--track", "--no-torch-det", "--sizes", "3", "4", "--opt.lr=-2.0", "--opt.fused-adam"]),
    ("tyro", {"req": 3, "must": True, "track": False, "names": [], "opt__fused_adam": False},
     ["--req=3", "--must=True", "--no-track", "--names", "--opt.no-fused-adam"]),
    ("jsonargparse", {"seed": 3, "lr": -1, "flag": True, "xs": [1, 2], "d": {"a": 1}, "my_rate": 2.5},
     ["3", "--lr=-1.0", "--flag=True", "--xs=[1, 2]", '--d={"a": 1}', "--my_rate=2.5"]),
    ("simple_parsing", {"must": 1, "learning_rate": -3, "on": True, "off": False, "xs": [1, 2], "mode": "b", "wd": 9, "extra": 3},
     ["--must=1", "--learning_rate=-3.0", "--on=True", "--off=False", "--xs", "1", "2", "--mode=b", "--wd=9.0", "--extra=3"]),
    ("hugging_face", {"must": "a b", "learning_rate": -2, "on": True, "off": False, "maybe": False, "xs": [1, 2]},
     ["--must=a b", "--learning_rate=-2.0", "--on=True", "--off=False", "--maybe=False", "--xs", "1", "2"]),
    ("absl", {"must": 3, "mode": "b", "on": True, "lr": -2, "xs": ["a", "b"], "ks": [1, 2]},
     ["--lr=-2.0", "--on=True", "--xs=a,b", "--ks=1", "--ks=2", "--mode=b", "--must=3"]),
    ("tap", {"must": 1, "on": True, "off": False, "xs": [1, 2]}, ["--must=1", "--on", "--off", "--xs", "1", "2"]),
    ("hydra", {"lr": 0.02, "name": "a, b", "model": "big", "opt__wd": 1e-5, "sizes": [1, 2]},
     ["model=big", "lr=0.02", 'name="a, b"', "sizes=[1,2]", "opt.wd=1e-05"]),
    ("docopt", {"command": "train", "data": "d", "lr": 3, "number": 4, "verbose": True},
     ["train", "d", "--lr=3", "--verbose", "--number=4"]),
    ("docopt", {"command": "eval", "ckpt": "x", "extra": ["a", "b"]}, ["eval", "a", "b", "--ckpt=x"]),
    ("fire", {"command": "train", "epochs": 2, "on": False, "lr": -3}, ["--lr=-3.0", "train", "--epochs=2", "--on=False"]),
    ("exec", {"learning_rate": 1, "compile": False, "device": "cuda:1"}, ["--learning_rate=1.0", "--device=cuda:1", "--compile=False"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kwargs", "words"), SPELT)
def test_parameters_are_spelt_as_the_library_reads_them(tmp_path, name, kwargs, words):
    rows = [row for row in flag_rows(executor_at(recorded(tmp_path, name), "main.py")) if row.get("value") is None]
    assert cli().command_line(rows, kwargs) == words


@pytest.mark.parametrize("name", ["tyro", "jsonargparse", "simple_parsing", "hugging_face", "absl", "tap"])
def test_the_flags_are_those_of_the_recorded_help(tmp_path, name):
    facts = script_facts(recorded(tmp_path, name), "main.py")
    assert facts.complete
    told = options_in((DATA / f"{name}.help.txt").read_text())
    read = {option for flag in facts.flags for option in flag.options}
    # Other spellings of the same flags, and the library's own.
    known = {"--learning-rate", "--no_off", "--no-off", "--noon", "--nooff", "--print_config"}
    assert told - known == read


def test_hydra_reads_the_files_of_its_configuration(tmp_path):
    facts = script_facts(recorded(tmp_path, "hydra"), "main.py")
    keys, problem = keys_in((DATA / "hydra.help.txt").read_text())
    shown = {option for flag in facts.flags if not flag.hidden for option in flag.options}
    assert (facts.framework, facts.complete, problem) == ("hydra", True, "")
    assert shown - keys == {"model=", "model.depth="}  # the group, and a key of a file that may be chosen
    by_name = {flag.name: flag for flag in facts.flags}
    assert (by_name["lr"].type, by_name["lr"].default, by_name["model"].choices) == ("float", 0.001, ["big", "small"])
    (tmp_path / "conf/config.yaml").unlink()
    facts = script_facts(tmp_path, "main.py")
    assert (facts.complete, facts.notes, facts.spelling) == (
        False,
        ["there is no configuration conf/config.yaml"],
        "++{path}=",
    )


# Hydra read each of these as the value that it stands for.
@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a b", '"a b"'), ("1", '"1"'), ("true", '"true"'), ("", '""'), ("C:\\dir\\file", '"C:\\dir\\file"'), ('q"uo', '"q\\"uo"'),
        ("back\\", '"back\\\\"'), ("/p/a-b.c", "/p/a-b.c"), (True, "true"), (None, "null"), (1e-5, "1e-05"),
        ([1, "a b", [2.0]], '[1,"a b",[2.0]]'), ({"a": 1, "b": "x y"}, '{a:1,b:"x y"}'),
    ],
)  # fmt: skip
def test_values_of_hydra_keep_their_type(value, word):
    assert cli().words_of({"name": "x", "option": "x="}, value) == ["x=" + word]


UNKNOWN = {
    "cyclopts": "from cyclopts import App\napp = App()\n@app.default\ndef main(lr: float = 0.1): ...\nif __name__ == '__main__':\n    app()\n",
    "sacred": "from sacred import Experiment\nex = Experiment()\nif __name__ == '__main__':\n    ex.run_commandline()\n",
    "pyrallis": "import pyrallis\n@pyrallis.wrap()\ndef main(cfg): ...\nif __name__ == '__main__':\n    main()\n",
    "plac": "import plac\ndef main(lr): ...\nif __name__ == '__main__':\n    plac.call(main)\n",
    "getopt": "import getopt, sys\nif __name__ == '__main__':\n    getopt.getopt(sys.argv[1:], 'l:')\n",
    "omegaconf": "from omegaconf import OmegaConf\nif __name__ == '__main__':\n    cfg = OmegaConf.from_cli()\n",
    "detectron2": "from detectron2.engine import default_argument_parser\nif __name__ == '__main__':\n    default_argument_parser().parse_args()\n",
    "installed": "from installed.train import main\nif __name__ == '__main__':\n    main()\n",
    "plain": "import sys\nif __name__ == '__main__':\n    print(float(sys.argv[1]))\n",
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_has_no_reader_is_named_and_not_complete(tmp_path, name):
    facts = script_facts(repo(tmp_path, **{"main.py": UNKNOWN[name]}), "main.py")
    assert (facts.framework, facts.complete) == (name, False)
    assert facts.notes


ELSEWHERE = {
    "a module of the folder": ({"opts.py": "import argparse\ndef get():\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr', type=float)\n    return p.parse_args()\n"},
                               "from opts import get\nif __name__ == '__main__':\n    a = get()\n"),
    "a parser at the top level of a module": ({"config.py": "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\nargs = parser.parse_args()\n"},
                                              "from config import args\nif __name__ == '__main__':\n    print(args.lr)\n"),
    "classes with a base": ({"options/__init__.py": "", "options/train.py": "from .base import Base\nclass Train(Base):\n    def initialize(self, parser):\n        parser = Base.initialize(self, parser)\n        return parser\n",
                             "options/base.py": "import argparse\nclass Base:\n    def initialize(self, parser):\n        parser.add_argument('--lr', type=float)\n        return parser\n    def parse(self):\n        parser = self.initialize(argparse.ArgumentParser())\n        return parser.parse_args()\n"},
                            "from options.train import Train\nif __name__ == '__main__':\n    opt = Train().parse()\n"),
    "a parent from another module": ({"main_base.py": "import argparse\ndef get_args_parser():\n    parser = argparse.ArgumentParser(add_help=False)\n    parser.add_argument('--lr', type=float)\n    return parser\n"},
                                     "import argparse\nfrom main_base import get_args_parser\nif __name__ == '__main__':\n    parser = argparse.ArgumentParser(parents=[get_args_parser()])\n    parser.parse_args()\n"),
    "a subclass of the parser": ({}, "import argparse\nclass P(argparse.ArgumentParser):\n    def __init__(self):\n        super().__init__()\n        self.add_argument('--lr', type=float)\nif __name__ == '__main__':\n    P().parse_args()\n"),
    "a factory with a constant": ({}, "import argparse\ndef number(p, name):\n    p.add_argument('--' + name, type=float)\nif __name__ == '__main__':\n    p = argparse.ArgumentParser()\n    number(p, 'lr')\n    p.parse_args()\n"),
    "the method by another name": ({}, "import argparse\nif __name__ == '__main__':\n    p = argparse.ArgumentParser()\n    add = p.add_argument\n    add('--lr', type=float)\n    p.parse_args()\n"),
    "two steps": ({}, "import argparse\nc = argparse.ArgumentParser(add_help=False)\nif __name__ == '__main__':\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr', type=float)\n    known, rest = c.parse_known_args()\n    p.parse_args(rest)\n"),
}  # fmt: skip


@pytest.mark.parametrize("way", ELSEWHERE)
def test_a_parser_that_is_built_elsewhere_is_followed(tmp_path, way):
    files, main = ELSEWHERE[way]
    facts = script_facts(
        repo(tmp_path, **{"src/main.py": main}, **{f"src/{n}": t for n, t in files.items()}), "src/main.py"
    )
    assert facts.framework == "argparse"
    assert [(flag.name, flag.type) for flag in facts.flags] == [("lr", "float")]
    assert facts.complete, facts.notes


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Trainer.add_argparse_args(parser)", "lightning.Trainer.add_argparse_args may add flags"),
        ("args, unknown = parser.parse_known_args()", "are read from unknown"),
        ("[setter(parser) for setter in found()]", "setter may add flags"),
        ("list(map(parser.add_argument, found()))", "map may add flags"),
    ],
)
def test_flags_that_others_may_add_are_told(tmp_path, line, told):
    source = f"import argparse\nfrom lightning import Trainer\nif __name__ == '__main__':\n    parser = argparse.ArgumentParser()\n    {line}\n    parser.parse_args()\n"
    facts = script_facts(repo(tmp_path, **{"main.py": source}), "main.py")
    assert not facts.complete
    assert told in " ".join(facts.notes)


def test_subcommands_have_flags_of_their_own(tmp_path):
    source = """
    import argparse
    def common(p):
        p.add_argument("--seed", type=int)
    def main():
        shared = argparse.ArgumentParser(add_help=False)
        shared.add_argument("--data")
        p = argparse.ArgumentParser()
        p.add_argument("--verbose", action="store_true")
        sub = p.add_subparsers(dest="what", required=True)
        train = sub.add_parser("train", parents=[shared], help="fit it")
        train.add_argument("--lr", type=float, required=True)
        common(train)
        test = sub.add_parser("test", parents=[shared])
        for one in (train, test):
            one.add_argument("--out")
        p.parse_args()
    if __name__ == "__main__":
        main()
    """
    facts = script_facts(repo(tmp_path, **{"main.py": source}), "main.py")
    own = {one.name: [flag.name for flag in one.flags] for one in facts.subcommands}
    assert own == {"train": ["data", "lr", "seed", "out"], "test": ["data", "out"]}
    assert ([flag.name for flag in facts.flags], facts.subcommand_name, facts.subcommand_required) == (
        ["verbose"],
        "what",
        True,
    )
    assert (facts.subcommands[0].doc, facts.complete) == ("fit it", True)


def test_a_group_of_click_takes_commands_of_other_modules(tmp_path):
    main = """
    import click
    from jobs import evaluate
    @click.group()
    @click.option("--verbose/--quiet", default=False)
    def cli(verbose): ...
    @cli.command()
    @click.option("--lr", type=float, required=True)
    def train_cmd(lr): ...
    cli.add_command(evaluate, "check")
    if __name__ == "__main__":
        cli()
    """
    jobs = "import click\n@click.command()\n@click.option('--ckpt')\ndef evaluate(ckpt): ...\n"
    facts = script_facts(repo(tmp_path, **{"main.py": main, "jobs.py": jobs}), "main.py")
    assert {one.name: [flag.name for flag in one.flags] for one in facts.subcommands} == {
        "train": ["lr"],
        "check": ["ckpt"],
    }
    rows = flag_rows(executor_at(tmp_path, "main.py"))
    assert cli().command_line(rows, {"verbose": False, "command": "train", "lr": 2.0}) == [
        "--quiet",
        "train",
        "--lr=2.0",
    ]


def test_variables_of_the_environment_are_parameters(tmp_path):
    source = """
    import json, os
    from os import environ as env
    def setting(name, default=None):
        return env.get(name, default)
    LR = float(os.environ["LR"])
    seed = int(setting("SEED", 3))
    depth = os.getenv("HPC_KW_DEPTH", "2")
    home = os.environ["HOME"]
    json.dump({"loss": LR}, open(os.environ["HPC_RESULT_DIR"] + "/metrics.json", "w"))
    """
    facts = script_facts(repo(tmp_path, **{"main.py": source}), "main.py")
    found = {flag.name: (flag.options, flag.type, flag.required) for flag in facts.environment}
    assert found == {
        "lr": (["$LR"], "float", True),
        "depth": (["$HPC_KW_DEPTH"], "str", False),
        "seed": (["$SEED"], "int", False),
    }
    assert (facts.framework, facts.complete, facts.has_main_guard) == ("plain", True, False)
    facts = script_facts(
        repo(tmp_path, **{"main.py": textwrap.dedent(source) + "print(os.environ[LR + 'x'])\n"}), "main.py"
    )
    assert not facts.complete


def test_scripts_of_the_whole_repo_are_found_those_at_the_root_first(tmp_path):
    script = "import argparse\nif __name__ == '__main__':\n    argparse.ArgumentParser().parse_args()\n"
    repo(tmp_path, **dict.fromkeys(("train.py", "scripts/sample.py", "tools/deep/x.py", "scripts/out/y.py"), script))
    found, _ = find_executors(tmp_path)
    assert [facts.path for facts in found] == ["train.py", "scripts/out/y.py", "scripts/sample.py", "tools/deep/x.py"]
    (tmp_path / ".gitignore").write_text("/scripts/out/\nsample.py\n")
    assert find_executors(tmp_path, ["scripts"])[0] == []
    assert [facts.path for facts in find_executors(tmp_path, ["tools/", "./scripts"])[0]] == ["tools/deep/x.py"]


def test_required_by_a_value_that_is_not_known(tmp_path):
    source = "import argparse\nimport cfg\np = argparse.ArgumentParser()\np.add_argument('--a', required=cfg.flag)\np.add_argument('--b', required=True)\np.parse_args()\n"
    facts = script_facts(repo(tmp_path, **{"main.py": source}), "main.py")
    assert [(flag.name, flag.required, flag.dynamic) for flag in facts.flags] == [
        ("a", False, True),
        ("b", True, False),
    ]


PARSED = "import argparse\np = argparse.ArgumentParser()\n{}\np.parse_args()\n"
CLICKED = "import click\n@click.command()\n{}\ndef main(**given): ...\nif __name__ == '__main__':\n    main()\n"
HYDRA = "import hydra\n@hydra.main(config_path='conf', config_name='config')\ndef main(cfg): ...\nif __name__ == '__main__':\n    main()\n"


# Each of these lines was given to the real program, which took it.
@pytest.mark.parametrize(
    ("source", "kwargs", "words"),
    [
        (PARSED.format("p.add_argument('--fast', action='store_const', const=1)"), {"fast": True}, ["--fast"]),
        (PARSED.format("p.add_argument('--fast', action='store_const', const=1)"), {"fast": False}, []),
        (PARSED.format("p.add_argument('--lr', type=float, choices=[1.0, 2.0])"), {"lr": 1}, ["--lr=1.0"]),
        (PARSED.format("p.add_argument('--opt', type=str.lower, choices=['sgd', 'adam'])"), {"opt": "SGD"}, ["--opt=SGD"]),
        (CLICKED.format("@click.option('--opt', type=click.Choice(['sgd'], case_sensitive=False))"), {"opt": "SGD"}, ["--opt=SGD"]),
        (HYDRA, {"lr": 0.5, "flag": "auto", "name": "yes"}, ["lr=0.5", "flag=auto", 'name="yes"']),
    ],
)  # fmt: skip
def test_what_the_program_takes_is_not_refused(tmp_path, source, kwargs, words):
    repo(tmp_path, **{"main.py": source, "conf/config.yaml": "lr: 1\nflag: false\nname: a\n"})
    executor = executor_at(tmp_path, "main.py")
    assert check_kwargs(executor, kwargs) == []
    assert cli().command_line(flag_rows(executor), kwargs) == words


def test_a_constant_takes_no_value(tmp_path):
    repo(tmp_path, **{"main.py": PARSED.format("p.add_argument('--fast', action='store_const', const=1)")})
    (problem,) = check_kwargs(executor_at(tmp_path, "main.py"), {"fast": 3})
    assert problem.message == "'fast' of main.py must be true or false, not 3"


def notebook(source):
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["parameters"]},
        "source": [source],
        "outputs": [],
        "execution_count": None,
    }
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


FIRE = "import fire\ndef main(alpha{}): print(alpha)\nif __name__ == '__main__': fire.Fire(main)\n"
HYDRA = "import hydra\n@hydra.main(config_path='.', config_name='c')\ndef main(cfg): print(cfg)\nif __name__ == '__main__': main()\n"
RUN = "from hpc_agent import register_run\n@register_run\ndef main(alpha{}):\n    return {{'a': alpha}}\n"
CHOICE = "import click\n@click.command()\n@click.option('--alpha', type=click.Choice(['ADAM', 'Sgd']{}))\ndef main(alpha): print(alpha)\nif __name__ == '__main__': main()\n"
CLICK = "import click\n@click.command()\n@click.option('--alpha', default=1)\ndef main(alpha): print(alpha)\nif __name__ == '__main__': main()\n"


@pytest.mark.parametrize(
    ("files", "key", "value", "fits"),
    [
        ({"a.py": FIRE.format("=1")}, "a.py", 0.5, True),
        ({"a.py": FIRE.format("=0.5")}, "a.py", "auto", True),
        ({"a.py": FIRE.format(": int = 1")}, "a.py", 0.5, False),
        ({"a.py": FIRE.format("=True")}, "a.py", 3, False),  # cli.py would write True
        ({"a.py": HYDRA, "c.yaml": "alpha: 1\n"}, "a.py", 0.5, True),
        ({"a.py": RUN.format("=1")}, "a.py:main", 0.5, True),
        ({"a.py": RUN.format("=False")}, "a.py:main", 3, True),
        ({"a.py": RUN.format(": int = 1")}, "a.py:main", 0.5, False),
        ({"a.ipynb": notebook("alpha = 1")}, "a.ipynb", 0.5, True),
        ({"a.py": CHOICE.format(", case_sensitive=False")}, "a.py", "adam", True),
        ({"a.py": CHOICE.format(", case_sensitive=False")}, "a.py", "lion", False),
        ({"a.py": CHOICE.format("")}, "a.py", "adam", False),
        ({"a.py": CLICK}, "a.py", 0.5, False),  # click takes the type of the default
    ],
)
def test_a_default_is_no_type_where_the_library_has_none(tmp_path, files, key, value, fits):
    found = check_kwargs(executor_at(repo(tmp_path, **files), key), {"alpha": value})
    assert [one.code for one in found] == ([] if fits else ["wrong_value"])


@pytest.mark.parametrize("kind", ["Union[int, str]", "int | str | None", "Optional[Union[str, float]]"])
@pytest.mark.parametrize("parse", ["tyro.cli", "jsonargparse.CLI"])
def test_text_for_a_union_has_no_quotes_of_json(tmp_path, kind, parse):
    source = f"import tyro, jsonargparse\nfrom typing import *\ndef main(p: {kind} = 1): print(p)\nif __name__ == '__main__': {parse}(main)\n"
    entry = executor_at(repo(tmp_path, **{"a.py": source}), "a.py")
    assert [cli().command_line(flag_rows(entry), {"p": value}) for value in ("x", 2)] == [["--p=x"], ["--p=2"]]


def test_a_script_that_starts_very_much_is_read_in_part_and_says_so(tmp_path, monkeypatch):
    for module in (modules, discovery):
        monkeypatch.setattr(module, "MOST_CALLS", 50)
    calls = "\n".join(f"def f{n}():\n    f{n + 1}()\n    print(1)\n" for n in range(200))
    facts = script_facts(repo(tmp_path, **{"main.py": calls + "if __name__ == '__main__':\n    f0()\n"}), "main.py")
    assert not facts.complete
    assert facts.notes == ["it makes more than 50 calls when it starts, of which the others were not read"]


def test_no_script_is_left_out_silently(tmp_path):
    files = {
        "omega.py": "from omegaconf import OmegaConf\ncfg = OmegaConf.merge({}, OmegaConf.from_cli())\nprint(cfg)\n",
        "holy.py": "from sacred import Experiment\nex = Experiment()\n@ex.automain\ndef run(lr): return lr\n",
        "bare.py": "def main(lr=1): print(lr)\nmain()\n",
        "config.py": "import json\nwith open('c.json') as file:\n    print(json.load(file))\n",
        "module.py": "import sys\nsys.path.append('.')\ndef helper(): pass\n",
        "run.py": "from hpc_agent import register_run\n@register_run\ndef main(lr=1): return {}\nprint(1)\n",
        "tests/test_x.py": "print(1)\n",
    }
    found, notes = find_executors(repo(tmp_path, **files))
    assert {facts.path: (facts.framework, facts.complete) for facts in found} == {
        "omega.py": ("omegaconf", False), "holy.py": ("sacred", False),
    }  # fmt: skip
    [note] = notes
    assert "not listed: 2 " in note and "bare.py, config.py;" in note
    assert executor_at(tmp_path, "bare.py") is not None


def test_an_example_names_one_of_several_scripts_of_the_same_stem(tmp_path):
    script = "import argparse\nif __name__ == '__main__':\n    argparse.ArgumentParser().parse_args()\n"
    found, _ = find_executors(repo(tmp_path, **dict.fromkeys(("a/train.py", "b/train.py"), script)))
    assert "--executors a/train.py" in build_tasks_command(found)
    assert "--executors train" in build_tasks_command(found[:1])


def test_a_help_that_failed_is_not_advised_again(tmp_path):
    source = "import no_gpu, plac\ndef main(*rest): pass\nif __name__ == '__main__':\n    plac.call(main)\n"
    entry = executor_at(repo(tmp_path, **{"a.py": source}), "a.py")
    [before] = check_kwargs(entry, {"lr": 1})
    assert "--check-help" in before.fix
    world = World()
    [helped], notes = with_ways(world, tmp_path, [entry], {"lr"}, {}, sys.executable)
    [after] = check_kwargs(helped, {"lr": 1})
    assert (
        "--check-help" not in after.fix
        and "ended with: ModuleNotFoundError: No module named 'no_gpu'." in after.fix
        and notes
    )


def test_null_for_a_required_flag_is_refused(tmp_path):
    source = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', required=True)\np.add_argument('--n')\np.parse_args()\n"
    entry = executor_at(repo(tmp_path, **{"a.py": source}), "a.py")
    assert [one.code for one in check_kwargs(entry, {"lr": None, "n": None})] == ["missing_parameter"]
    assert check_kwargs(entry, {"lr": 1, "n": None}) == []


def test_a_way_of_two_words_is_a_command_of_ones_own(tmp_path):
    source = "from sacred import Experiment\nex = Experiment()\n@ex.automain\ndef run(lr): return lr\n"
    entry = executor_at(repo(tmp_path, **{"a.py": source}), "a.py")
    with pytest.raises(SpecInvalid) as caught:
        with_ways(World(), tmp_path, [entry], set(), {"lr": "with lr="}, None)
    assert """--pass-as '{"lr": "$LR"}' and submit""" in caught.value.remediation
    assert """--executor 'python3 a.py with lr="$LR"'.""" in caught.value.remediation
    [given], _ = with_ways(World(), tmp_path, [entry], set(), {"lr": "$LR"}, None)
    assert check_kwargs(given, {"lr": 1}) == []
