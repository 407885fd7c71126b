"""The libraries that read a command line or a configuration: how their use is recognised, and who reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import NamedTuple

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.absl_flags import read_absl
from hpc_agent.experiment.reading.argparse_flags import ParserReader
from hpc_agent.experiment.reading.click_flags import read_click
from hpc_agent.experiment.reading.configurator_flags import read_configurator
from hpc_agent.experiment.reading.docopt_flags import read_docopt
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts
from hpc_agent.experiment.reading.hydra_flags import read_hydra
from hpc_agent.experiment.reading.modules import Module, StartedCall, bases_of
from hpc_agent.experiment.reading.signature_flags import read_fire, read_typer
from hpc_agent.experiment.reading.typed_libraries import (
    read_hugging_face,
    read_jsonargparse,
    read_lightning,
    read_simple_parsing,
    read_tap,
    read_tyro,
)

Reader = Callable[[Module, ExecutorFacts], None]


def read_parsers(module: Module, facts: ExecutorFacts) -> None:
    ParserReader(facts, module).read()


class Library(NamedTuple):
    """``uses`` matches the full name of a call when the script starts; ``spelling`` is that of an unlisted parameter."""

    name: str
    uses: str
    reader: Reader | None = None
    spelling: str = "--{name}"


# The first that a script uses is its framework. Those without a reader are named, and their flags are not known.
LIBRARIES = (
    Library("hydra", r"hydra\.(main|compose|initialize\w*)", read_hydra, "++{path}="),
    Library("lightning", r".*\.LightningCLI", read_lightning, "--{path}"),
    Library("tyro", r"tyro\.(cli|extras\.\w+)", read_tyro, "--{path}"),
    Library("HfArgumentParser", r".*(HfArgumentParser|TrlParser|HfTrainerArgumentParser)", read_hugging_face),
    Library("jsonargparse", r"jsonargparse\.(CLI|auto_\w+|ArgumentParser|capture_parser)", read_jsonargparse, "--{path}"),
    Library("simple_parsing", r"simple_parsing\.(\w+\.)*(ArgumentParser|parse|parse_known_args)", read_simple_parsing),
    Library("tap", r"tap\.(Tap|TypedArgumentParser|tapify)", read_tap),
    Library("ml_collections", r".*config_flags\.DEFINE_\w+", read_absl, "--config.{path}"),
    Library("absl", r"absl\.app\.run|(.*\.)?g?flags\.DEFINE_\w+", read_absl),
    Library("fire", r"fire\.(core\.)?Fire", read_fire),
    Library("typer", r"typer\.(run|Typer)", read_typer),
    Library("click", r"(\w*click|cloup)\.(command|group|option)", read_click),
    Library("docopt", r"docopt(_ng)?\.(docopt|magic\w*)", read_docopt),
    Library("configargparse", r"configargparse\.\w+", read_parsers),
    Library("argparse", r"argparse\.ArgumentParser", read_parsers),
    Library("optparse", r"optparse\.OptionParser", read_parsers),
    Library("omegaconf", r"omegaconf\.OmegaConf\.from_(cli|dotlist)", None, "{path}="),
    Library("cyclopts", r"cyclopts\.(App|run)"),
    Library("sacred", r"sacred\.Experiment", None, ""),
    Library("plac", r"plac\.call"), Library("defopt", r"defopt\.(run|bind)"), Library("clize", r"clize\.run"),
    Library("argh", r"argh\.\w+"), Library("pyrallis", r"pyrallis\.\w+", None, "--{path}"),
    Library("draccus", r"draccus\.\w+", None, "--{path}"), Library("chz", r"chz\.\w+", None, "{path}="),
    Library("cappa", r"cappa\.(invoke|parse)"), Library("datargs", r"datargs\.\w+"), Library("gin", r"gin\.parse_\w+", None, ""),
    Library("pydantic_settings", r"pydantic_settings\.(BaseSettings|CliApp\.run)"),
    Library("environs", r"environs\.(Env|env)\b.*", None, ""), Library("decouple", r"decouple\.\w+", None, ""),
    Library("exec", r"exec|runpy\.run_\w+", read_configurator),
    Library("getopt", r"getopt\.(gnu_)?getopt"),
)  # fmt: skip
_ANY = re.compile("|".join(library.uses for library in LIBRARIES))
# A call of a package that is neither Python's own nor in the repo, and that is named like a reader of the command line.
_LIKE_A_PARSER = re.compile(
    r".*(arg_?pars|pars\w*_arg|argument|command_?line|(^|[._])(cli|opts?|options|flags|hparams|get_args|(get|load)_config)$)",
    re.IGNORECASE,
)
_LIKE_A_START = re.compile(r".*\.(main|app|run_cli|launch|entry_?point)")


def uses_of(module: Module) -> list[tuple[Library, StartedCall]]:
    """Return the libraries that the script uses when it starts, in the order of LIBRARIES, each with its first call."""
    found: dict[str, StartedCall] = {}
    for call in module.started:
        for name in names_of(call):
            found.setdefault(name, call)
    known = [
        (library, next((c for n, c in found.items() if re.fullmatch(library.uses, n)), None)) for library in LIBRARIES
    ]
    return [(library, call) for library, call in known if call is not None]


def may_read(module: Module) -> bool:
    """Return True when a function or statement of the module, outside of its guard, calls one of the libraries."""
    nodes = [node for node in module.tree.body if not syntax.is_guard(node)] if module.parsed.may_parse else []
    calls = (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(_ANY.fullmatch(module.full_name(call)) for call in calls)


def names_of(call: StartedCall) -> list[str]:
    """Return the full name of a call; of a class of the repo also those of its bases."""
    target = call.module.find(syntax.dotted(call.node.func))
    return [call.name, *(module.full_name(base) for base, module in bases_of(target))]


def unknown_reader(module: Module) -> StartedCall | None:
    """Return a call of another package that may read the command line, such as ``detectron2.engine.default_argument_parser``."""
    for call in module.started:
        name = call.name
        is_foreign = name.partition(".")[0] in call.module.foreign and not call.module.find(
            syntax.dotted(call.node.func)
        )
        if is_foreign and (_LIKE_A_PARSER.match(name) or _LIKE_A_START.fullmatch(name)):
            return call
    return None
