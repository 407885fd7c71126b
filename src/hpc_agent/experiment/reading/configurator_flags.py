"""Parameters of a script that runs a configurator in its own namespace, as nanoGPT does: ``--name=value`` sets a constant."""

from __future__ import annotations

import ast

from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts, type_of_value
from hpc_agent.experiment.reading.modules import Module
from hpc_agent.experiment.reading.syntax import Unknown

_TYPES = (bool, int, float, str)


def read_configurator(module: Module, facts: ExecutorFacts) -> None:
    """Add the constants above ``exec(open("configurator.py").read())``. Any other code that is run by exec is noted."""
    call = next(call for call in module.started if call.name in ("exec", "runpy.run_path", "runpy.run_module"))
    texts = [
        part.value for part in ast.walk(call.node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    files = [base / text for text in texts for base in (module.start, module.root) if text.endswith(".py")]
    data = next((file.read_bytes() for file in files if file.is_file()), b"")
    if call.name != "exec" or b"argv" not in data or b"globals()" not in data:
        facts.doubt(f"{call.place} runs other code, which may read parameters")
        return
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and node.lineno < call.node.lineno:
            for target in node.targets:
                if isinstance(target, ast.Name) and not target.id.startswith("_"):
                    _add(facts, target.id, node.value, module)


def _add(facts: ExecutorFacts, name: str, node: ast.expr, module: Module) -> None:
    try:
        value = module.scope.value(node)
    except Unknown:
        return
    if isinstance(value, _TYPES):
        flag = FlagFacts(name=name, options=["--" + name], type=type_of_value(value), default=value)
        flag.action = "store_bool" if isinstance(value, bool) else "store"
        facts.flags = [*(known for known in facts.flags if known.name != name), flag]
