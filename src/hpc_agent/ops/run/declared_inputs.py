"""The inputs that a request declares: hashed where they lie, in the repo, in a shared path, or on the cluster."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.remote import Node
from hpc_agent.node.shared.input_hashes import WHOLE_BYTES, Place, hash_inputs, place

HASH_TIMEOUT_SEC = 900.0


def hash_declared(node: Node, root: Path, inputs: list[str], shared: dict[str, str | None], cache: Path) -> list[Any]:
    """Return the hashes of the declared inputs, in their order. Raises SpecInvalid.

    Only inputs that lie on a cluster which is reached by SSH need a connection: one command for all of them.
    """
    if not inputs:
        return []
    for text in inputs:
        if ".." in Path(text).parts:
            remedy = (
                "Name it without '..': as it lies in the repo or in a shared path, or by its whole path on the cluster."
            )
            raise SpecInvalid(f"inputs: {text!r} may leave its folder", field="inputs", remediation=remedy)
    beyond = {name: path for name, path in shared.items() if path is not None}
    places = [place(text, beyond) for text in inputs]
    there = [where for where in places if where and node.cluster.ssh_target]
    answers: dict[str, Any] = {}
    if there:
        question = {"root": node.root, "places": [list(where) for where in there]}
        answered = node.bootstrap("hash_inputs", question, HASH_TIMEOUT_SEC)["inputs"]
        answers = {where.path: found for where, found in zip(there, answered, strict=True)}
    local = [
        where or Place(text, f"{glob.escape(str(root))}/{text}", f"{root}/")
        for text, where in zip(inputs, places, strict=True)
        if text not in answers
    ]
    try:
        answers |= {one["path"]: one for one in hash_inputs(local, str(cache))}
    except ValueError as error:
        remedy = "Correct the path in --inputs, then run the same 'hpc-agent' command again."
        raise SpecInvalid(f"inputs: {error}", field="inputs", remediation=remedy) from error
    return [answers[text] for text in inputs]


def notes_of(inputs: list[dict[str, Any]], shared: dict[str, str | None], pushed: dict[str, bool]) -> list[str]:
    """Return notes about large files, of which only samples were read, and about files that no task gets."""
    notes = [
        f"inputs: {one['sampled']} of {one['files']} files of {one['path']} have more than {WHOLE_BYTES >> 20} MiB: their "
        "hash is made of 64 samples of 1 MiB, a change between two samples is not seen"
        for one in inputs
        if one["sampled"]
    ]
    outside = dict.fromkeys(shared, "")
    lost = [
        one
        for one in inputs
        if place(one["path"], outside) is None and one["listed"] and not pushed.keys() & one["listed"].keys()
    ]
    return notes + [f"inputs: {one['path']} is not among the pushed files: tasks do not find it there" for one in lost]


def changes(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[str]:
    """Return what differs between the inputs of two runs: one sentence for each declared path, with the first files."""
    told = []
    first, second = ({one["path"]: one for one in inputs} for inputs in (before, now))
    for path in dict.fromkeys([*first, *second]):
        old, new = first.get(path), second.get(path)
        if old is None or new is None:
            told.append(f"{path} {'was not declared before' if old is None else 'is not declared any more'}")
        elif old["sha256"] != new["sha256"]:
            names = sorted(old["listed"].keys() | new["listed"].keys())
            names = [name for name in names if old["listed"].get(name) != new["listed"].get(name)]
            shown = f" ({', '.join(names[:3])})" if names and names != [path] else ""
            told.append(f"{path} changed{shown}")
    return told
