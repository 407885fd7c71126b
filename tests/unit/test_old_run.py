"""A run whose tasks left a file each, as runs did before packed elements had logs, is read as it was then."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpc_agent.node import entry
from hpc_agent.node.look.records import CACHE_VERSION
from hpc_agent.node.shared.files import read_json, write_json

DATA = Path(__file__).parents[1] / "data" / "layout_1"
RUN = "repo-d074dea2"
ASKED: dict[str, dict[str, Any]] = {
    "report": {"measure": True},
    "failures": {},
    "logs": {"tasks": list(range(8)), "lines": 5},
    "combine": {"force": True, "measure": True},
    "provenance": {},
    "rows": {"parameters": True},
    "resubmit": {
        "request_id": "next", "owner": "o", "policy": {"force": True}, "job_prefix": "r.", "max_array_size": 1000,
        "dry_run": True,
    },
    "ended": {"metrics": ["y"]},
    "survey": {"metric": "y"},
    "verify_aggregation": {},
}  # fmt: skip
# Of the moment, and the time at which a copied file was written.
VOLATILE = ("checked_at", "size")
# Fields that came later, as an old run has them.
LATER = {"at_once": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "hpc-agent" / "repo"
    shutil.copytree(DATA / "run", place / "runs" / RUN)
    return place


def told(answer: Any) -> Any:
    """Return an answer without what differs from one moment to the next, and without later fields."""
    if isinstance(answer, dict):
        kept = (name for name in answer if name not in VOLATILE and (name, answer[name]) not in LATER.items())
        return {name: told(answer[name]) for name in kept}
    return [told(value) for value in answer] if isinstance(answer, list) else answer


def ask(root: Path, verb: str) -> Any:
    run = {"root": str(root), "run_id": RUN}
    request = {**run, "runs": [{**run, "known": ""}], "site": {"local_state": str(root / "none")}, **ASKED[verb]}
    answer = entry.run_verb(verb, request)
    assert answer["ok"], answer
    found = told(json.loads(json.dumps(answer["data"]).replace(str(root), "ROOT")))
    if verb == "provenance":
        found["waves"] = dict.fromkeys(found["waves"])
    return found


@pytest.mark.parametrize("verb", ASKED)
def test_it_answers_as_it_did(root, verb):
    expected = told(json.loads((DATA / "answers.json").read_text())[verb])
    if verb == "provenance":
        expected["waves"] = dict.fromkeys(expected["waves"])
    for _ in range(2):  # anew, and from what the look before has kept
        assert ask(root, verb) == expected


def test_what_an_earlier_version_has_kept_of_a_look_is_not_used(root):
    cache = root / "runs" / RUN / "status_cache.json"
    everything = {"00000": {"complete": "0-7", "failed": {}, "mtime": 0, "settled": True}}
    write_json(str(cache), {"version": CACHE_VERSION - 1, "shards": everything})
    assert ask(root, "report")["counts"]["complete"] == 6
    assert read_json(str(cache))["version"] == CACHE_VERSION
