"""Hash the declared inputs that lie on the cluster, for a submission and for a reproduction."""

import os
from typing import Any, Dict, List, Tuple

from ..shared import input_hashes
from ..shared.errors import NodeError
from ..shared.input_hashes import Place, place
from ..shared.run_folder import check_root

_REMEDY = "Correct the path in --inputs, then run the same 'hpc-agent' command again."


def hash_inputs(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``inputs``: the hashes of the places in the request. Raises NodeError ``spec_invalid``."""
    root = check_root(request["root"])
    try:
        return {"inputs": input_hashes.hash_inputs([Place(*one) for one in request["places"]], _cache(root))}
    except ValueError as error:
        raise NodeError("spec_invalid", "inputs: %s" % error, _REMEDY) from error


def inputs_now(root: str, run: Dict[str, Any]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """Return the declared inputs of a run as they are now, and a sentence for each that changed since the submission.

    A shared folder that was pushed keeps files which earlier runs had: beside the files of this run they are no change.
    """
    now, told = [], []
    for before in run.get("inputs") or []:
        where = place(before["path"], run.get("shared") or {})
        if where is None:
            now.append(before)  # in the snapshot, which does not change
            continue
        try:
            [found] = input_hashes.hash_inputs([where], _cache(root))
        except ValueError as error:
            told.append(str(error))
            now.append({"path": before["path"], "files": 0, "bytes": 0, "sha256": "", "sampled": 0, "listed": {}})
            continue
        old, new = before["listed"], found["listed"]
        names = sorted(name for name in set(old) | set(new) if old.get(name) != new.get(name)) if old and new else []
        was_pushed = where.real.startswith(os.path.join(root, "shared", ""))
        if was_pushed and names and not set(names) & set(old):
            found = before
        now.append(found)
        if found["sha256"] != before["sha256"]:
            told.append("%s changed%s" % (before["path"], " (%s)" % ", ".join(names[:3]) if names else ""))
    return now, told


def _cache(root: str) -> str:
    return os.path.join(root, "input_hashes.json")
