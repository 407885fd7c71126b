"""Flags of tyro, simple-parsing, HfArgumentParser, Tap, jsonargparse and LightningCLI: their calls name classes or functions."""

from __future__ import annotations

import ast
import re

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.argparse_flags import ParserReader
from hpc_agent.experiment.reading.dataclass_flags import Style, flags_of
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, SubcommandFacts
from hpc_agent.experiment.reading.modules import Definition, Found, Module, StartedCall, bases_of, lineage
from hpc_agent.experiment.reading.signature_flags import inner_types

TYRO = Style("pair", dashes=True, nested=True)
SIMPLE = Style("value")
HUGGING_FACE = Style("value", by_value=True)
TAP = Style("turn")
JSONARGPARSE = Style("value", nested=True, json=True)
_LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")
_METHODS = {"add_class_arguments": 1, "add_function_arguments": 1, "add_dataclass_arguments": 1, "add_arguments": 1}


def _given(call: StartedCall, at: int, *names: str) -> ast.expr | None:
    """Return the argument at this place of the call, or of one of these names."""
    named = syntax.keywords_of(call.node)
    if at < len(call.node.args):
        return call.node.args[at]
    return next((named[name] for name in names if name in named), None)


def _items(node: ast.expr | None) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List)) else [node] if node is not None else []


def _flags_at(
    node: ast.expr | None, module: Module, style: Style, facts: ExecutorFacts, *prefix: str
) -> list[FlagFacts]:
    """Return the flags of the class or function that an expression names; note one that is not in the repo."""
    found = module.find(syntax.dotted(node))
    if found is None:
        facts.doubt(f"the flags of {module.full_name(node) or ast.unparse(node or ast.Constant(None))} are not listed")
        return []
    return flags_of(found, style, facts, prefix)


def _add_commands(facts: ExecutorFacts, commands: list[SubcommandFacts], required: bool = True) -> None:
    facts.subcommands += commands
    facts.subcommand_name, facts.subcommand_required = "command", required


def read_tyro(module: Module, facts: ExecutorFacts) -> None:
    """Read ``tyro.cli(Args)``, a union of classes, and a dict of subcommands."""
    for call in module.started:
        if call.name == "tyro.cli":
            target, given = _given(call, 0, "f"), syntax.keywords_of(call.node)
            flags_off = "FlagConversionOff" in ast.unparse(call.node)
            style = Style("value", dashes=True, nested=True) if flags_off else TYRO
            if "OmitArgPrefixes" in ast.unparse(call.node):
                style = Style(style.bools, dashes=True)
            while isinstance(target, ast.Subscript) and syntax.last_name(target.value) not in ("Union", "Annotated"):
                target = inner_types(target)[0]
            members = _members(target, call.module)
            if len(members) > 1:
                _add_commands(
                    facts,
                    [
                        SubcommandFacts(
                            name=_hyphened(syntax.dotted(one)), flags=_flags_at(one, call.module, style, facts)
                        )
                        for one in members
                    ],
                    "default" not in given,
                )
            else:
                facts.flags += _flags_at(target, call.module, style, facts)
            if "default" in given:
                for flag in facts.flags:
                    flag.required, flag.dynamic = False, True
            if "args" in given:
                facts.doubt("tyro.cli() gets its words from elsewhere")
        elif call.name.endswith("subcommand_cli_from_dict") and isinstance(commands := _given(call, 0), ast.Dict):
            names = [call.module.scope.value_or(key, None) for key in commands.keys]
            targets = [_flags_at(node, call.module, TYRO, facts) for node in commands.values]
            _add_commands(
                facts,
                [SubcommandFacts(name=str(n), flags=f) for n, f in zip(names, targets, strict=True) if n is not None],
            )
            if None in names:
                facts.doubt("the names of the subcommands are not known")
        elif call.name.startswith("tyro.extras."):
            facts.doubt(f"the flags of {call.name}() are not listed")


def _members(node: ast.expr | None, module: Module) -> list[ast.expr]:
    """Return the classes of ``A | B`` and ``Union[A, B]``, also of one that a name stands for."""
    if isinstance(node, ast.Name) and module.find(node.id) is None:
        named = [
            n.value for n in module.tree.body if isinstance(n, ast.Assign) and syntax.dotted(n.targets[0]) == node.id
        ]
        return _members(named[-1], module) if named and not isinstance(named[-1], ast.Name) else [node]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_members(node.left, module), *_members(node.right, module)]
    if isinstance(node, ast.Subscript) and syntax.last_name(node.value) == "Union":
        return inner_types(node)
    return [node] if node is not None else []


def _hyphened(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.rpartition(".")[2]).lower().replace("_", "-")


def read_hugging_face(module: Module, facts: ExecutorFacts) -> None:
    """Read ``HfArgumentParser((A, B))``; classes of another package, such as TrainingArguments, are noted."""
    for call in module.started:
        if call.name.endswith(("HfArgumentParser", "TrlParser")):
            for node in _items(_given(call, 0, "dataclass_types")):
                facts.flags += _flags_at(node, call.module, HUGGING_FACE, facts)
    _add_plain_flags(module, facts)


def _add_plain_flags(module: Module, facts: ExecutorFacts) -> None:
    """Add the flags that the script gives to the same parser by ``add_argument``."""
    if not any(call.name.endswith("ArgumentParser") for call in module.started):
        return
    own = ExecutorFacts(name=facts.name, path=facts.path, framework="argparse", has_main_guard=True)
    ParserReader(own, module).read()
    facts.flags += own.flags
    facts.subcommands, facts.subcommand_name = (
        [*facts.subcommands, *own.subcommands],
        own.subcommand_name or facts.subcommand_name,
    )
    for note in own.notes:
        facts.doubt(note)


def read_simple_parsing(module: Module, facts: ExecutorFacts) -> None:
    """Read ``simple_parsing.parse(Config)`` and ``parser.add_arguments(Config, dest)``."""
    for call in module.started:
        if call.name in ("simple_parsing.parse", "simple_parsing.helpers.parse", "simple_parsing.parsing.parse"):
            facts.flags += _flags_at(_given(call, 0, "config_class"), call.module, SIMPLE, facts)
        elif syntax.last_name(call.node) == "add_arguments":
            facts.flags += _flags_at(_given(call, 0, "dataclass"), call.module, SIMPLE, facts)
            if "prefix" in syntax.keywords_of(call.node):
                facts.doubt("the flags of a dataclass have a prefix, which is not listed")
    _add_plain_flags(module, facts)
    names = [flag.name for flag in facts.flags]
    if len(set(names)) < len(names):
        facts.doubt("several dataclasses have a field of the same name, which then gets a prefix")


def read_tap(module: Module, facts: ExecutorFacts) -> None:
    """Read the fields of the classes that are made of tap.Tap; those of its ``configure`` are noted."""
    for call in module.started:
        found = call.module.find(syntax.dotted(call.node.func))
        if found is None or not isinstance(found.node, ast.ClassDef):
            continue
        if any(syntax.last_name(base) == "Tap" for base, _ in bases_of(found)):
            dashes = module.scope.value_or(syntax.keywords_of(call.node).get("underscores_to_dashes"), False) is True
            facts.flags += flags_of(found, Style("turn", dashes=dashes), facts)
            if any(
                isinstance(n, syntax.Function) and n.name == "configure"
                for one in lineage(found)
                for n in one.node.body
            ):
                facts.doubt("what configure() changes of the flags is not listed")


def read_jsonargparse(module: Module, facts: ExecutorFacts) -> None:
    """Read ``CLI(function)``, ``CLI(Class)``, and a parser's ``add_class_arguments`` and its kin."""
    for call in module.started:
        last = call.name.rpartition(".")[2]
        if last in ("CLI", "auto_cli", "auto_parser"):
            _read_cli(call, facts)
        elif last in _METHODS and call.node.args:
            prefix = call.module.scope.value_or(_given(call, _METHODS[last], "nested_key"), "")
            words = str(prefix or "").replace("-", "_").split(".") if prefix else []
            facts.flags += _flags_at(call.node.args[0], call.module, JSONARGPARSE, facts, *words)
        elif last == "add_subclass_arguments":
            facts.doubt("the flags of a class that is chosen on the command line are not listed")
    _add_plain_flags(module, facts)


def _read_cli(call: StartedCall, facts: ExecutorFacts) -> None:
    """Read the components of CLI: one function, a class whose methods are subcommands, or several of them."""
    facts.flags.append(FlagFacts(name="config", options=["--config"], type="path"))
    module, component = call.module, _given(call, 0, "components")
    positional = module.scope.value_or(syntax.keywords_of(call.node).get("as_positional"), True) is not False
    found = [(syntax.dotted(node).rpartition(".")[2], module.find(syntax.dotted(node))) for node in _items(component)]
    if component is None:
        here = (node for node in module.tree.body if isinstance(node, Definition))
        found = [(node.name, Found(node, module)) for node in here]
    if isinstance(component, ast.Dict) or not found or any(one is None for _, one in found):
        facts.doubt(f"the flags of {ast.unparse(call.node)} are not listed")
        return

    def own(one: Found) -> list[FlagFacts]:
        flags = flags_of(one, JSONARGPARSE, facts)
        for flag in flags if positional else ():
            flag.options = [] if flag.required else flag.options
        return flags

    one = found[0][1]
    if len(found) > 1:
        commands = [SubcommandFacts(name=name, flags=own(one)) for name, one in found if one is not None]
        _add_commands(facts, commands)
        if any(one is not None and isinstance(one.node, ast.ClassDef) for _, one in found):
            facts.doubt("the methods of a class are subcommands of a subcommand, and are not listed")
    elif one is not None:
        facts.flags += own(one)
        if isinstance(one.node, ast.ClassDef):
            methods = [n for n in one.node.body if isinstance(n, syntax.Function) and not n.name.startswith("_")]
            _add_commands(facts, [SubcommandFacts(name=n.name, flags=own(Found(n, one.module))) for n in methods])


def read_lightning(module: Module, facts: ExecutorFacts) -> None:
    """Read ``LightningCLI(Model, Data)``: subcommands with the parameters of both; those of the trainer are noted."""
    flags: list[FlagFacts] = []
    for call in module.started:
        if not call.name.endswith("LightningCLI") and not _is_lightning(call):
            continue
        given = syntax.keywords_of(call.node)
        classes = {"model": _given(call, 0, "model_class"), "data": _given(call, 1, "datamodule_class")}
        for prefix, node in classes.items():
            chosen = module.scope.value_or(given.get(f"subclass_mode_{prefix}"), False)
            if node is None or chosen:
                facts.doubt(f"the class of --{prefix} is chosen on the command line; its flags are not listed")
            else:
                flags += _flags_at(node, call.module, JSONARGPARSE, facts, prefix)
        facts.doubt("the flags of the trainer (--trainer.max_epochs and others) are not listed")
        if module.scope.value_or(given.get("run"), True) is False:
            facts.flags += flags
        else:
            _add_commands(facts, [SubcommandFacts(name=name, flags=flags) for name in _LIGHTNING_COMMANDS])
        break


def _is_lightning(call: StartedCall) -> bool:
    found = call.module.find(syntax.dotted(call.node.func))
    return any(syntax.last_name(base) == "LightningCLI" for base, _ in bases_of(found))
