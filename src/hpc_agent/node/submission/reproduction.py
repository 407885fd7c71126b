"""Submit a frozen run again: its snapshot, parameters, command and plan as they lie on the cluster, under a new run id."""

import base64
import os
import zlib
from typing import Any, Dict, Optional

from ..look.inputs import inputs_now
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_json
from ..shared.ledger import PLANNED, Array, arrays_of
from ..shared.snapshot_tree import is_as_frozen
from . import run_submission


def reproducible(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return what is known before the run ``of`` is submitted again.

    ``run``: its document; ``snapshot``: True while it is there; ``as_frozen``: False where its files were changed;
    ``inputs`` as they are now; ``changed_inputs``: sentences; ``taken``: run id -> the run that it repeats, of the runs whose
    id begins with ``base`` and ``-r``.
    """
    root = run_folder.check_root(request["root"])
    run = read_json(run_folder.existing_run(root, request["of"]).document)
    names = [name for name in os.listdir(os.path.join(root, "runs")) if name.startswith(request["base"] + "-r")]
    taken = {name: read_json(run_folder.run_folder(root, name).document, {}).get("reproduces") for name in names}
    snapshot = os.path.isdir(os.path.join(root, "snapshots", run["snapshot"]))
    inputs, changed = inputs_now(root, run)
    return {
        "run": run, "snapshot": snapshot, "as_frozen": is_as_frozen(root, run), "inputs": inputs, "changed_inputs": changed,
        "taken": taken,
    }  # fmt: skip


def reproduce(request: Dict[str, Any]) -> Dict[str, Any]:
    """Submit the run ``of`` again as ``run_id``. The same request again goes on with it, and submits nothing twice.

    Returns what ``submit`` returns. Raises NodeError ``precondition_failed`` when the snapshot is gone.
    """
    root = run_folder.check_root(request["root"])
    source = run_folder.existing_run(root, request["of"])
    folder = run_folder.run_folder(root, request["run_id"])
    run = read_json(source.document)
    again = dict(
        run, run_id=request["run_id"], remote_path=folder.path, submitted_at=request["submitted_at"],
        reproduces=request["of"], inputs=request["inputs"], campaign_id=None, trials=[], job_ids=[],
    )  # fmt: skip
    planned = [array for array in arrays_of(source) if array.resubmit is None]
    job = read_json(source.submission, {})
    question = {
        "root": root, "owner": request["owner"], "site": request["site"], "run": again,
        "manifest": None, "base": None, "incoming": None, "shared_pushed": [],
        "digests": _packed(source.digests) or _pack(b""), "tasks": _packed(source.given_tasks),
        "template": job["template"], "job_environment": job["job_environment"],
        "arrays": [_planned(array, run, request["run_id"]).to_json() for array in planned],
    }  # fmt: skip
    return run_submission.submit(question)


def _planned(array: Array, run: Dict[str, Any], run_id: str) -> Array:
    """Return the array as it was planned, before anything was submitted, with the job name of the new run."""
    if run["run_id"] not in array.name:  # two jobs of one name could be taken for each other
        raise NodeError("remote_command_failed", "the job %s has no name of %s" % (array.name, run["run_id"]))
    held = "canary" if run.get("canary") and array.array != "c0" else None
    return array._replace(
        name=array.name.replace(run["run_id"], run_id, 1), state=PLANNED, held=held, at=0.0, owner=None, message=None,
        after_jobs=[], job_id=None, submitted_at=None, adopted=None,
    )  # fmt: skip


def _packed(path: str) -> Optional[str]:
    """Return a file compressed and as base64; None where the run has none."""
    try:
        with open(path, "rb") as handle:
            return _pack(handle.read())
    except FileNotFoundError:
        return None


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode("ascii")
