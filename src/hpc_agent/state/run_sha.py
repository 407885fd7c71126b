"""Identities: of the parameters (``cmd_sha``) and of the whole frozen run (``run_id``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from hpc_agent.node.shared.task_environment import canonical


def compute_cmd_sha(all_kwargs: Iterable[dict[str, Any]]) -> str:
    """Return the SHA-256 of the parameters of all tasks, each as compact JSON with sorted keys, joined by newlines."""
    digest = hashlib.sha256()
    for number, kwargs in enumerate(all_kwargs):
        if number:
            digest.update(b"\n")
        digest.update(canonical(kwargs))
    return digest.hexdigest()


def compute_content_sha(identity: dict[str, Any]) -> str:
    """Return the hash of the identity without the repo's path: clones and other machines get the same."""
    content = {key: value for key, value in identity.items() if key != "repo"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def compute_run_id(run_name: str, identity: dict[str, Any], rerun: int = 0) -> str:
    """Return ``<run-name>-<8 hex>``, from parameters, tasks.py, executor, code and cluster; ``-rN`` marks a repeat."""
    sha = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{run_name}-{sha[:8]}" + (f"-r{rerun}" if rerun else "")
