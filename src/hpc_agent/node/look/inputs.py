"""Hash the declared inputs that lie on the cluster, for a submission and for a reproduction."""

import os
from contextlib import suppress
from typing import Any, Dict, List, Tuple

from ..shared.errors import NodeError
from ..shared.files import make_folder, read_json, write_json
from ..shared.input_hashes import Place, hash_input, place
from ..shared.run_folder import check_root

_REMEDY = "Correct the path in --inputs, then run the same 'hpc-agent' command again."


def hash_inputs(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``inputs``: the hashes of the places in the request. Raises NodeError ``spec_invalid``."""
    root = check_root(request["root"])
    try:
        return {"inputs": _hashed(root, [Place(*one) for one in request["places"]])}
    except ValueError as error:
        raise NodeError("spec_invalid", "inputs: %s" % error, _REMEDY) from error


def inputs_now(root: str, run: Dict[str, Any]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """Return the declared inputs of a run as they are now, and a sentence for each that changed since the submission."""
    now, told = [], []
    for before in run.get("inputs") or []:
        where = place(before["path"], run.get("shared") or {})
        if where is None:
            now.append(before)  # in the snapshot, which does not change
            continue
        try:
            [found] = _hashed(root, [where])
        except ValueError as error:
            told.append(str(error))
            now.append({"path": before["path"], "files": 0, "bytes": 0, "sha256": "", "sampled": 0, "listed": {}})
            continue
        now.append(found)
        if found["sha256"] != before["sha256"]:
            old, new = before["listed"], found["listed"]
            names = (
                sorted(name for name in set(old) | set(new) if old.get(name) != new.get(name)) if old and new else []
            )
            told.append("%s changed%s" % (before["path"], " (%s)" % ", ".join(names[:3]) if names else ""))
    return now, told


def _hashed(root: str, places: List[Place]) -> List[Dict[str, Any]]:
    path = os.path.join(root, "input_hashes.json")
    known: Dict[str, List[Any]] = {}
    with suppress(OSError, ValueError):
        known = read_json(path, {})
    before = dict(known)
    try:
        return [hash_input(where, known) for where in places]
    finally:
        if known != before:
            with suppress(OSError):
                make_folder(root)
                write_json(path, known, sync=False)
