"""Ask for the trials of a journal again, and compare."""

from __future__ import annotations

from typing import Any

import msgspec

from hpc_agent.campaign import strategies
from hpc_agent.campaign.journal import Ask, fold
from hpc_agent.campaign.manifest import Manifest


def replay(manifest: Manifest, events: list[dict[str, Any]], first: int) -> tuple[int, list[dict[str, Any]]]:
    """Return how many trials from number ``first`` on were asked again, and those that came out differently.

    Each is asked from the lines before it. Trials of earlier campaigns are no asks of this one.
    """
    asked, different = 0, []
    for number, event in enumerate(events):
        if event["event"] != "ask" or event["trial"] < first or event["iteration"] < 0:
            continue
        line = msgspec.convert(event, Ask)
        again: list[Ask] = strategies.ask(manifest, fold(events[:number]), 1)
        asked += 1
        if not again or (again[0].params, again[0].origin) != (line.params, line.origin):
            found = {"params": again[0].params, "origin": again[0].origin} if again else None
            different.append({"trial": line.trial, "journal": line.params, "again": found})
    return asked, different
