"""Reference pages made from tables in the code: the failure catalogue, the states of a task, why tasks wait."""

from __future__ import annotations

from hpc_agent.node.shared import task_states, waiting_reasons
from hpc_agent.node.shared.failure_classes import CATALOGUE

ACTIONS = {
    "resubmit": "submitted again as it is",
    "more_memory": "submitted again with more memory",
    "more_time": "submitted again with more walltime",
    "other_nodes": "submitted again, avoiding the node",
    "continue": "submitted again; it goes on from its checkpoint",
    "fix": "left alone: the same failure would come back",
    "ask": "left alone: a person has to decide",
}


def failures_page(notice: str) -> str:
    """Every class of the catalogue, in order of precedence."""
    lines = [
        notice,
        "# The failure catalogue",
        "",
        "`hpc-agent failures` names the class of every failed task, with its evidence and its confidence; `hpc-agent resubmit`",
        "acts on it. Classes are tried in this order.",
        "",
        "| class | what gives it away | what `resubmit` does by itself | times |",
        "|---|---|---|---|",
    ]
    for kind in CATALOGUE:
        action = ACTIONS[kind.action] + (f" ({kind.multiplier:g} times as much)" if kind.multiplier else "")
        lines.append(f"| [`{kind.name}`](#{kind.name}) | {kind.signs} | {action} | {kind.attempts or '-'} |")
    lines += ["", "## Remedies", ""]
    for kind in CATALOGUE:
        lines += [f"### {kind.name}", "", f"{kind.title}. {kind.remedy}", ""]
    lines += [
        "## Confidence",
        "",
        "- `certain`: the scheduler's accounting or the task's own record says it, or the message cannot mean anything else",
        "- `likely`: the log or the numbers fit, and nothing contradicts them",
        "- `guess`: only an exit code or a signal is known",
        "",
    ]
    return "\n".join(lines)


def states_page(notice: str) -> str:
    """States, transitions, a run's life, and why tasks wait."""
    lines = [notice, "# The life of a task", "", "| state | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in task_states.MEANINGS]
    lines += ["", "```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    lines += [f"    {start} --> {end}" for start, end, _ in task_states.TRANSITIONS]
    lines += ["    complete --> [*]", "```", "", "| from | to | when |", "|---|---|---|"]
    lines += [f"| `{start}` | `{end}` | {when} |" for start, end, when in task_states.TRANSITIONS]
    lines += ["", "## The life of a run", "", "| lifecycle_state | when |", "|---|---|"]
    lines += [f"| `{name}` | {when} |" for name, when in task_states.LIFECYCLE]
    lines += [
        "",
        "## Why tasks wait",
        "",
        "`status` puts the scheduler's reason into a sentence (`waiting`) and counts the tasks that wait for something that",
        "does not come by itself (`stuck`).",
        "",
        "| reason | sentence | passes by itself |",
        "|---|---|---|",
    ]
    for word, (sentence, passes) in sorted(waiting_reasons.SENTENCES.items()):
        lines.append(f"| {word} | {sentence} | {'yes' if passes else 'no'} |")
    return "\n".join([*lines, ""])
