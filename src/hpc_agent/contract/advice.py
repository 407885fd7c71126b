"""Commands in answers: each runs as printed, in the folder where the call was made."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from hpc_agent.contract.catalogue import CatalogueEntry
from hpc_agent.contract.vocabulary import ADVICE

_COMMAND = re.compile(r"\bhpc-agent (?P<verb>[a-z][a-z-]*[a-z])(?![\w-])")
_QUOTED = re.compile(r"'(hpc-agent [^']*)'")


def runnable(
    answer: Any,
    verb: str,
    again: Callable[[], str] | None,
    experiment_dir: str,
    catalogue: Mapping[str, CatalogueEntry],
) -> Any:
    """Return ``answer`` (JSON) with commands in its advice that run as printed.

    ``verb`` without options stands for this call once more, and becomes the command that ``again`` returns. Other verbs
    get the repo of this call. A command that holds quotes stands between backquotes.
    """

    def whole(found: re.Match[str]) -> str:
        if found["verb"] == verb and again and not found.string.startswith(" --", found.end()):
            return again()
        entry = catalogue.get(found["verb"])
        takes_repo = entry is not None and any(flag.path == ["experiment_dir"] for flag in entry.flags)
        has_repo = "--experiment-dir" in found.string[found.end() :].partition("hpc-agent ")[0]
        if experiment_dir == "." or not takes_repo or has_repo:
            return found[0]
        return f"{found[0]} --experiment-dir {shlex.quote(experiment_dir)}"

    def advised(text: str) -> str:
        parts = _QUOTED.split(text.replace("<verb>", verb))
        parts[::2] = [_COMMAND.sub(whole, part) for part in parts[::2]]
        for at in range(1, len(parts), 2):
            command = _COMMAND.sub(whole, parts[at])
            mark = "`" if "'" in command else "'"  # a quote within quotes would end the command
            parts[at] = f"{mark}{command}{mark}"
        return "".join(parts)

    def walked(value: Any, is_advice: bool) -> Any:
        if isinstance(value, dict):
            return {name: walked(item, name in ADVICE) for name, item in value.items()}
        if isinstance(value, list):
            return [walked(item, is_advice) for item in value]
        return advised(value) if is_advice and isinstance(value, str) else value

    return walked(answer, False)
