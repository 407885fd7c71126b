"""Commands in answers: each runs as printed, in the folder where the call was made."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import Any

# Fields of answers that hold commands for the reader.
ADVICE = frozenset(("next_step", "next_steps", "next_command", "remedy", "remediation", "fix"))
_COMMAND = re.compile(r"\bhpc-agent ([a-z][a-z-]+)(?! --experiment-dir)(?![\w-])")


def in_repo(answer: dict[str, Any], experiment_dir: str, verbs: Collection[str]) -> dict[str, Any]:
    """Return ``answer`` (JSON) with the repo of the call in its advice: those of ``verbs`` get ``--experiment-dir``."""
    option = f" --experiment-dir {shlex.quote(experiment_dir)}"

    def named(value: Any, is_advice: bool) -> Any:
        if isinstance(value, dict):
            return {name: named(item, name in ADVICE) for name, item in value.items()}
        if isinstance(value, list):
            return [named(item, is_advice) for item in value]
        if not is_advice or not isinstance(value, str):
            return value
        return _COMMAND.sub(lambda found: found[0] + option if found[1] in verbs else found[0], value)

    return {name: named(value, name in ADVICE) for name, value in answer.items()}
