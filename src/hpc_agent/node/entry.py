"""Run one verb of the node side: JSON request on stdin, one JSON answer on stdout, framed so that banners do not matter."""

import importlib
import json
import os
import sys
from typing import Any, Dict, List

from .shared.errors import PROTOCOL, NodeError
from .shared.files import is_disk_full

COMPRESS_ABOVE = 3 << 10
# Module by verb; the function in the module has the verb's name.
VERBS = {
    "prepare": "submission.run_submission", "submit": "submission.run_submission", "advance": "submission.run_submission",
    "look_up": "submission.run_submission",
    "resubmit": "submission.resubmission", "report": "why.answers", "overview": "why.answers",
    "adoptable": "look.known_runs", "verify": "look.known_runs", "ended": "look.ended_tasks",
    "hash_inputs": "look.inputs", "provenance": "look.provenance", "rows": "look.provenance", "changed_files": "look.provenance",
    "reproduce": "submission.reproduction", "reproducible": "submission.reproduction",
    "logs": "why.answers", "paths": "look.site_facts",
    "site": "look.site_facts", "canary": "why.diagnosis", "failures": "why.diagnosis", "combine": "fold.combine",
    "verify_aggregation": "fold.verify",
    "reduce": "submission.reduction", "join_series": "fold.series",
    "constrain": "submission.constraints", "many": "entry",
    "survey": "why.survey", "holdings": "look.holdings", "remove": "submission.removal",
}  # fmt: skip


def run_verb(name: str, request: Dict[str, Any]) -> Dict[str, Any]:
    """Return the verb's data or its error as one document. Never raises."""
    try:
        if name not in VERBS:
            raise NodeError("spec_invalid", "the node side has no verb %r" % name)
        module = importlib.import_module("." + VERBS[name], __package__)
        return {"ok": True, "protocol": PROTOCOL, "data": getattr(module, name)(request)}
    except NodeError as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - the answer must be JSON after any error
        import traceback  # slow to load, as what compresses an answer

        code, message = "remote_command_failed", "%s: %s" % (type(error).__name__, error)
        if isinstance(error, OSError):
            code = "storage_full" if is_disk_full(error) else code
            message = "%s%s" % ("%s: " % error.filename if error.filename else "", error.strerror)
        failure = NodeError(code, message, None, {"traceback": traceback.format_exc()[-3000:]})
    return dict(vars(failure), ok=False, protocol=PROTOCOL)


def many(request: Dict[str, Any]) -> Dict[str, Any]:
    """Run one verb for each of the ``requests``, with the fields in ``common``. An error of one does not stop the others."""
    return {"answers": [run_verb(request["verb"], dict(request["common"], **one)) for one in request["requests"]]}


def framed(verb: str, nonce: str, request: Dict[str, Any]) -> bytes:
    """Run one verb. Return its answer as it goes over the wire: compressed where it is long, between two lines with the nonce."""
    text = json.dumps(run_verb(verb, request), sort_keys=True, separators=(",", ":"))
    if len(text) > COMPRESS_ABOVE:
        import base64
        import zlib

        text = json.dumps({"z": base64.b64encode(zlib.compress(text.encode("utf-8"), 6)).decode("ascii")})
    return ("\nHPC-AGENT-BEGIN %s\n%s\nHPC-AGENT-END %s\n" % (nonce, text, nonce)).encode("utf-8")


def main(arguments: List[str]) -> int:
    """Run ``VERB NONCE < request``."""
    request = json.loads(sys.stdin.buffer.read().decode("utf-8"))
    output = os.dup(1)
    os.dup2(2, 1)  # a stray print of anything below must not reach the frame
    data = framed(arguments[0], arguments[1], request)
    while data:
        data = data[os.write(output, data) :]
    return 0
