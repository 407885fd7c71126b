"""The four workflows as prompts: the same texts as the slash commands of Claude Code."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hpc_agent.contract.envelope import did_you_mean
from hpc_agent.errors import SpecInvalid

_FOLDER = Path(__file__).resolve().parents[1] / "slash_commands" / "commands"
_HERE = "Here, 'hpc-agent VERB' is the tool VERB where there is one, else the tool call with that verb.\n\n"
_NO_ARGUMENT = "none was given"


class Workflow(NamedTuple):
    """A workflow as its file has it."""

    name: str
    description: str
    hint: str  # what its argument is
    text: str


def workflows() -> dict[str, Workflow]:
    """Return the workflows by name, in alphabetical order."""
    return {path.stem: _read(path) for path in sorted(_FOLDER.glob("*.md"))}


def _read(path: Path) -> Workflow:
    import yaml

    _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    hint = str(facts.get("argument-hint", "what to do"))
    return Workflow(path.stem, str(facts.get("description", "")), hint, text.strip())


def rendered(name: str, argument: str) -> tuple[Workflow, str]:
    """Return a workflow, and its text with the argument in it. Raises SpecInvalid for an unknown name."""
    known = workflows()
    if name not in known:
        remedy = did_you_mean(name, known) + f"The prompts are: {', '.join(known)}."
        raise SpecInvalid(f"there is no prompt '{name}'", field="name", remediation=remedy)
    return known[name], _HERE + known[name].text.replace("$ARGUMENTS", argument or _NO_ARGUMENT)
