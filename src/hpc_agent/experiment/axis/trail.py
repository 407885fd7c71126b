"""What is seen on the way through a function."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from hpc_agent.experiment.axis.values import Any_


@dataclass
class Trail:
    """What was seen on the way: the lines that decided, the warnings, and what leaves the function."""

    evidence: list[tuple[int, str]] = field(default_factory=list)
    caveats: dict[str, None] = field(default_factory=dict)
    returned: list[tuple[ast.AST, Any_]] = field(default_factory=list)
    used_as_number: dict[str, ast.AST] = field(default_factory=dict)
    used_as_series: set[str] = field(default_factory=set)

    def note(self, node: ast.AST, why: str) -> None:
        line = getattr(node, "lineno", 0)
        if (line, why) not in self.evidence:
            self.evidence.append((line, why))
