"""Flags read from source, for each library that parses a command line."""

import textwrap

import pytest

from hpc_agent.experiment.reading.argparse_flags import MOST_CALLS
from hpc_agent.experiment.reading.discovery import find_executors, script_facts


def facts_of(tmp_path, source, **others):
    for name, text in others.items():
        path = tmp_path / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "main.py").write_text(textwrap.dedent(source))
    return script_facts(tmp_path, "main.py")


def brief(facts):
    return {flag.name: (flag.options, flag.type, flag.required, flag.default) for flag in facts.flags}


def test_argparse_in_all_its_ways(tmp_path):
    found = facts_of(
        tmp_path,
        '''
        """What it does."""
        import argparse
        from pathlib import Path
        from common import add_common
        NAMES = ("alpha", "beta")
        DEFAULT = 2 ** 3

        def make():
            parser = argparse.ArgumentParser()
            parser.add_argument("input", type=Path)
            group = parser.add_mutually_exclusive_group()
            group.add_argument("-v", "--verbose", action="count", default=0)
            group.add_argument("--quiet", action="store_true")
            parser.add_argument("--steps", "-s", type=int, default=DEFAULT, choices=range(4, 10), help=f"of {DEFAULT}")
            parser.add_argument("--shuffle", action=argparse.BooleanOptionalAction, default=True)
            parser.add_argument("--size", nargs=2, type=float, required=True, metavar="N")
            parser.add_argument("--hidden", help=argparse.SUPPRESS)
            parser.add_argument("--version", action="version", version="1")
            for name in NAMES:
                parser.add_argument("--" + name, type=float, default=0.5)
            add_common(parser)
            parser.set_defaults(alpha=0.25)
            return parser

        if __name__ == "__main__":
            make().parse_args()
        ''',
        common="""
        def add_common(parser):
            parser.add_argument("--seed", type=int, default=42)
        """,
    )
    assert (found.framework, found.doc, found.complete, found.has_main_guard) == (
        "argparse",
        "What it does.",
        True,
        True,
    )
    assert brief(found) == {
        "input": ([], "path", True, None),
        "verbose": (["-v", "--verbose"], "int", False, 0),
        "quiet": (["--quiet"], "bool", False, False),
        "steps": (["--steps", "-s"], "int", False, 8),
        "shuffle": (["--shuffle", "--no-shuffle"], "bool", False, True),
        "size": (["--size"], "float", True, None),
        "hidden": (["--hidden"], "str", False, None),
        "alpha": (["--alpha"], "float", False, 0.25),
        "beta": (["--beta"], "float", False, 0.5),
        "seed": (["--seed"], "int", False, 42),
    }
    by_name = {flag.name: flag for flag in found.flags}
    assert by_name["steps"].choices == [4, 5, 6, 7, 8, 9]
    assert (by_name["steps"].help, by_name["size"].nargs, by_name["hidden"].hidden) == ("of 8", 2, True)


@pytest.mark.timeout(60)
def test_a_call_on_an_object_is_read_once_for_its_class(tmp_path):
    """Each method makes three objects of a class: reading each object's methods again, 3**20 times, would never end."""
    classes = "".join(
        f"""
        class C{n}:
            def __init__(self, parent=None):
                self.parent = parent
            def run(self):
                a, b, c = C{(n + 1) % 5}(self), C{(n + 2) % 5}(a), C{(n + 3) % 5}(b)
                a.run()
                b.run()
                c.run()
        """
        for n in range(5)
    )
    found = facts_of(
        tmp_path,
        f"""
        import argparse
        {classes}
        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--lr", type=float)
            parser.parse_args()
            C0().run()
        """,
    )
    assert (brief(found), found.complete) == ({"lr": (["--lr"], "float", False, None)}, True)


def test_more_calls_than_are_followed_are_said(tmp_path):
    calls = "\n".join(f"add(parser, {n})" for n in range(MOST_CALLS + 1))
    (tmp_path / "main.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\n"
        f"def add(parser, n):\n    parser.add_argument(f'--a{{n}}')\n{calls}\nparser.parse_args()\n"
    )
    found = script_facts(tmp_path, "main.py")
    assert len(found.flags) == MOST_CALLS
    assert found.notes == [f"only the first {MOST_CALLS:,} function calls were followed"]
    assert not found.complete


@pytest.mark.parametrize(
    "line",
    [
        "parser.add_argument(name_of(), type=int)",
        "parser.add_argument('--x', **options)",
        "[parser.add_argument(n) for n in unknown()]",
    ],
)
def test_what_the_source_does_not_tell_is_said(tmp_path, line):
    found = facts_of(tmp_path, f"import argparse\nparser = argparse.ArgumentParser()\n{line}\nparser.parse_args()\n")
    assert found.complete is False


def test_optparse(tmp_path):
    found = facts_of(
        tmp_path,
        """
        import optparse
        op = optparse.OptionParser()
        op.add_option("--n", type="int", dest="count", default=3)
        op.add_option("-q", action="store_false", dest="loud", default=True)
        (opts, args) = op.parse_args()
        """,
    )
    assert brief(found) == {"count": (["--n"], "int", False, 3), "loud": (["-q"], "bool", False, True)}


def test_click(tmp_path):
    found = facts_of(
        tmp_path,
        """
        import click

        @click.command()
        @click.argument("source", type=click.Path())
        @click.option("--depth", "-d", type=int, default=3, help="how deep")
        @click.option("--mode", type=click.Choice(["a", "b"]), required=True)
        @click.option("--fast/--slow", default=True)
        @click.option("--dry", is_flag=True)
        @click.option("--tag", multiple=True)
        def main(source, depth, mode, fast, dry, tag): ...

        if __name__ == "__main__":
            main()
        """,
    )
    assert (found.framework, found.complete) == ("click", True)
    assert brief(found) == {
        "source": ([], "path", True, None),
        "depth": (["--depth", "-d"], "int", False, 3),
        "mode": (["--mode"], "str", True, None),
        "fast": (["--fast", "--slow"], "bool", False, True),
        "dry": (["--dry"], "bool", False, False),
        "tag": (["--tag"], "str", False, None),
    }
    by_name = {flag.name: flag for flag in found.flags}
    assert (by_name["mode"].choices, by_name["fast"].action, by_name["tag"].action) == (
        ["a", "b"],
        "boolean_optional",
        "append",
    )


def test_typer(tmp_path):
    found = facts_of(
        tmp_path,
        """
        from enum import Enum
        from typing import Annotated, Optional
        import typer

        class Model(str, Enum):
            ridge = "ridge"
            boost = "boost"

        def main(horizon: int, model: Model = Model.ridge, rate: float = typer.Option(0.1, "--rate", "-r", help="speed"),
                 fast: bool = False, names: Annotated[Optional[list[str]], typer.Option("--name")] = None):
            ...

        if __name__ == "__main__":
            typer.run(main)
        """,
    )
    flags = {flag.name: flag for flag in found.flags}
    assert found.framework == "typer"
    assert (flags["horizon"].options, flags["horizon"].required, flags["horizon"].type) == ([], True, "int")
    assert (flags["model"].options, flags["model"].choices) == (["--model"], ["ridge", "boost"])
    assert (flags["rate"].options, flags["rate"].default, flags["rate"].help) == (["--rate", "-r"], 0.1, "speed")
    assert (flags["fast"].options, flags["fast"].action) == (["--fast", "--no-fast"], "boolean_optional")
    assert (flags["names"].options, flags["names"].action) == (["--name"], "append")


def test_typer_needs_what_has_an_ellipsis_for_a_default(tmp_path):
    found = facts_of(
        tmp_path,
        """
        import typer

        def main(a: int = typer.Option(...), b: int = typer.Option(default=...), c: int = typer.Option(default=3)): ...

        if __name__ == "__main__":
            typer.run(main)
        """,
    )
    assert [(flag.name, flag.required, flag.default) for flag in found.flags] == [
        ("a", True, None),
        ("b", True, None),
        ("c", False, 3),
    ]


def test_fire(tmp_path):
    found = facts_of(
        tmp_path,
        "import fire\ndef run(a, b: int = 2, *, on=False): ...\nif __name__ == '__main__':\n    fire.Fire(run)\n",
    )
    assert brief(found) == {
        "a": (["--a"], "str", True, None),
        "b": (["--b"], "int", False, 2),
        "on": (["--on"], "bool", False, False),
    }
    assert [flag.action for flag in found.flags] == ["store", "store", "store_bool"]


def test_plain_scripts_modules_and_tests(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/go.py").write_text("if __name__ == '__main__':\n    print(1)\n")
    (tmp_path / "scripts/lib.py").write_text("import argparse\ndef f(): ...\n")
    (tmp_path / "scripts/test_go.py").write_text("if __name__ == '__main__':\n    print(1)\n")
    (tmp_path / "scripts/bad.py").write_text("if __name__ == '__main__'\n")
    (tmp_path / "elsewhere.py").write_text("if __name__ == '__main__':\n    print(1)\n")
    found, notes = find_executors(tmp_path)
    paths = [(facts.path, facts.framework, facts.complete) for facts in found]
    assert paths == [("elsewhere.py", "plain", True), ("scripts/go.py", "plain", True)]
    assert notes == ["scripts/bad.py:1: expected ':'"]
    only, _ = find_executors(tmp_path, ["scripts"])
    assert [facts.path for facts in only] == ["scripts/go.py"]
