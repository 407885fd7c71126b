"""``prior``: what earlier iterations of a campaign measured, for a ``tasks.py`` that chooses the next ones from it."""

import json
import os
from typing import Any, Dict, List, Optional


def prior(experiment_dir: str, campaign_id: str) -> List[Dict[str, Any]]:
    """Return the ended iterations of a campaign, oldest first; an empty list before the first one has ended.

    An iteration has ``run_id``, ``submitted_at``, ``metrics`` (name -> mean over its tasks), ``rows`` (for each grid
    point ``params``, ``metrics``, ``count``) and ``failed`` (tasks). ``hpc-agent aggregate`` adds the iteration of a run
    with a campaign id; the file travels with the next run, so tasks are the same on the cluster. Of a campaign of
    hpc-campaign-driver its journal is read, which stays on this machine: for a look at it, not for a tasks.py. Raises
    ValueError for a damaged file.
    """
    folder = os.path.join(str(experiment_dir), ".hpc", "campaigns", campaign_id)
    text = _read(os.path.join(folder, "journal.jsonl"))
    if text is not None:
        return _of_journal(text.split("\n")[:-1])  # a torn last line is none
    text = _read(os.path.join(folder, "prior.json"))
    return list(json.loads(text)["iterations"]) if text is not None else []


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def _of_journal(lines: List[str]) -> List[Dict[str, Any]]:
    """Return the iterations of a campaign of hpc-campaign-driver, from its asks and tells."""
    groups = {}  # type: Dict[int, List[Dict[str, Any]]]
    tells = {}  # type: Dict[int, Dict[str, Any]]
    for event in map(json.loads, lines):
        if event["event"] == "ask" and event["iteration"] >= 0:
            groups.setdefault(event["iteration"], []).append(event)
        elif event["event"] == "tell":
            tells.setdefault(event["trial"], event)
    whole = [groups[number] for number in sorted(groups) if all(ask["trial"] in tells for ask in groups[number])]
    return [_iteration(asks, [tells[ask["trial"]] for ask in asks]) for asks in whole]


def _iteration(asks: List[Dict[str, Any]], tells: List[Dict[str, Any]]) -> Dict[str, Any]:
    pairs = [(ask, tell) for ask, tell in zip(asks, tells) if tell["state"] == "complete"]
    rows = [{"params": ask["params"], "metrics": tell.get("values", {}), "count": 1} for ask, tell in pairs]
    names = sorted({name for row in rows for name in row["metrics"]})
    values = {name: [row["metrics"][name] for row in rows if name in row["metrics"]] for name in names}
    return {
        "run_id": tells[0].get("run_id", ""),
        "submitted_at": asks[0].get("at"),
        "metrics": {name: sum(found) / len(found) for name, found in values.items()},
        "rows": rows,
        "failed": sum(tell["state"] == "failed" for tell in tells),
    }
