"""Variables of the environment that a module reads: ``os.environ``, ``os.getenv`` and the module's own helpers around them."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import TYPES, FlagFacts, type_of_value
from hpc_agent.experiment.reading.modules import Module
from hpc_agent.node.shared.task_environment import ENV_NAME, is_reserved

_PREFIX = "HPC_KW_"
# The variable that holds all parameters of a task as JSON.
_ALL = "HPC_KW_JSON"
# A reason with these words: every parameter arrives.
READS_ALL = "reads all parameters"
_WITH_KEY = ("os.environ.get", "os.getenv", "os.environ.pop", "os.environ.setdefault")
# A use of the whole environment that tells nothing about its variables: it is handed to a child, or changed.
_HARMLESS = ("copy", "update", "setdefault", "clear")


def environment_of(module: Module) -> tuple[list[FlagFacts], list[str]]:
    """Return the parameters that the module reads from the environment, and the reasons why there may be others."""
    tree, scope = module.tree, module.scope
    if not module.parsed.reads_variables:
        return [], []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: dict[str, FlagFacts] = {}
    reasons: list[str] = []
    optional = {scope.value_or(_tested(node, module), None) for node in ast.walk(tree)}
    for key, default, use in _reads(module, parents):
        name = scope.value_or(key, None)
        if not isinstance(name, str):
            reasons.append(f"line {use.lineno} reads a variable of the environment whose name is not known")
        elif name == _ALL:
            reasons.append(f"line {use.lineno} {READS_ALL} from {_ALL}")
        elif parameter := parameter_of(name):
            required = isinstance(use, ast.Subscript) and name not in optional
            flag = FlagFacts(name=parameter, options=["$" + name], required=required)
            if default is not None:
                flag.set_default(default, scope)
            cast = syntax.last_name(parents.get(use)) if isinstance(parents.get(use), ast.Call) else ""
            flag.type = TYPES.get(cast, type_of_value(flag.default))
            found.setdefault(name, flag)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    kit = [call for call in calls if module.full_name_of(syntax.dotted(call.func)).endswith(".read_kw_env")]
    reasons += [f"line {call.lineno} {READS_ALL} with read_kw_env()" for call in kit]
    return list(found.values()), list(dict.fromkeys(reasons))


def parameter_of(variable: str) -> str | None:
    """Return the parameter that a task's variable holds; None for a variable that no parameter sets."""
    plain = variable.removeprefix(_PREFIX)
    if not ENV_NAME.match(plain) or (plain == variable and is_reserved(variable)):
        return None
    return plain.lower()


def _tested(node: ast.AST, module: Module) -> ast.expr | None:
    """Return the name in a test such as ``"LR" in os.environ``."""
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return None
    return node.left if module.full_name_of(syntax.dotted(node.comparators[0])) == "os.environ" else None


def _reads(
    module: Module, parents: dict[ast.AST, ast.AST]
) -> Iterator[tuple[ast.expr | None, ast.expr | None, ast.expr]]:
    """Yield key, default and the whole expression of each read. A key of None stands for the whole environment."""
    helpers: dict[str, tuple[int, int | None]] = {}
    for node in ast.walk(module.tree):
        read = _read(node, module, parents)
        if read is None:
            continue
        key, default, use = read
        function = next((up for up in _above(node, parents) if isinstance(up, syntax.Function)), None)
        names = [argument.arg for argument in (function.args.args if function else [])]
        if function and isinstance(key, ast.Name) and key.id in names:
            given = default.id if isinstance(default, ast.Name) else None
            helpers[function.name] = (names.index(key.id), names.index(given) if given in names else None)
        else:
            yield key, default, use
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and syntax.last_name(node) in helpers and not _read(node, module, parents):
            at, default_at = helpers[syntax.last_name(node)]
            values = dict(enumerate(node.args))
            with contextlib.suppress(KeyError):
                yield values[at], values.get(-1 if default_at is None else default_at), node


def _read(
    node: ast.AST, module: Module, parents: dict[ast.AST, ast.AST]
) -> tuple[ast.expr | None, ast.expr | None, ast.expr] | None:
    if isinstance(node, ast.Call) and node.args and module.full_name_of(syntax.dotted(node.func)) in _WITH_KEY:
        return node.args[0], node.args[1] if len(node.args) > 1 else syntax.keywords_of(node).get("default"), node
    if isinstance(node, ast.Subscript) and module.full_name_of(syntax.dotted(node.value)) == "os.environ":
        return (node.slice, None, node) if isinstance(node.ctx, ast.Load) else None
    if isinstance(node, (ast.Name, ast.Attribute)) and module.full_name_of(syntax.dotted(node)) == "os.environ":
        above = parents.get(node)
        used = isinstance(above, (ast.Subscript, ast.Compare, ast.keyword, ast.Dict))
        known = isinstance(above, ast.Attribute) and (
            above.attr in _HARMLESS or f"os.environ.{above.attr}" in _WITH_KEY
        )
        return None if used or known else (None, None, node)
    return None


def _above(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node
