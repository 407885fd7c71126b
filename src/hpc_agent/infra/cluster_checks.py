"""Check the values of clusters.yaml. Many of them become part of a command line on the cluster."""

from __future__ import annotations

import posixpath
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from hpc_agent.infra.backends import backend_names
from hpc_agent.node.shared.scheduler_names import BUILT_IN

_PLACEHOLDER = re.compile(r"<[^<>]*>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REMOTE_FOLDER = re.compile(r"/[A-Za-z0-9_./@+=~-]+")
_FORBIDDEN_ROOTS = ("/", "/home")

_NAME = (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), "letters, digits, '_', '.' and '-', not starting with '-'")
_WORD = (
    re.compile(r"[A-Za-z0-9_./@&|*()!\[+=:,][A-Za-z0-9_./@&|*()!\[\]+=:,~-]*"),
    "one word without spaces or quotes, not starting with '-'",
)
_ABSOLUTE = (re.compile(r"/.+"), "an absolute path on the cluster (~ and variables are not expanded there)")

_WORDS = ("modules", "conda_envs", "gpu_types", "gpu_queues", "account", "default_partition", "gpu_constraint")

# Complaints come in this order.
_SHAPES = {
    **dict.fromkeys(("host", "user"), _NAME),
    "python": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*|/[A-Za-z0-9_./+=@-]+"), "a program name or an absolute path"),
    **dict.fromkeys(("shell_init", "conda_source", "nfs_data_dir"), _ABSOLUTE),
    "ssh_config": (re.compile(r"(?!-|~[^/]).+"), "a path on this machine, relative to this file, absolute or ~/..."),
    **dict.fromkeys(_WORDS, _WORD),
    **dict.fromkeys(("parallel_environment", "sge_memory_resource"), _NAME),
    "sge_gpu_request": (re.compile(r"[A-Za-z0-9_.,=*{}-]+"), "resources such as gpu,{type},cuda={count}"),
}


def expand(path: str, home: Path) -> str:
    """Return the path with ``~`` replaced by ``home``, without duplicate slashes and the one at the end."""
    if path == "~" or path.startswith("~/"):
        path = f"{home}{path[1:]}"
    whole = posixpath.normpath(path)
    return "/" + whole.lstrip("/") if whole.startswith("/") else whole


def refuse_placeholders(value: Any) -> None:
    """Raises ValueError when a text in the value has a placeholder such as ``<your_user>`` or a control character."""
    for text in _texts(value):
        found = _PLACEHOLDER.search(text)
        if found:
            raise ValueError(f"still has the placeholder {found.group()}; it needs your own value")
        if _CONTROL.search(text):
            raise ValueError(f"has a control character: {text!r}")


def _texts(value: Any) -> Iterator[str]:
    """Yield a text, or those in lists and mappings, keys first."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(item)


def complaints_about(values: dict[str, Any], home: Path) -> Iterator[tuple[str, str]]:
    """Return (key, complaint) for every value that has the right type and cannot be used."""
    for key, (shape, wanted) in _SHAPES.items():
        odd = next((text for text in _texts(msgspec.to_builtins(values.get(key))) if not shape.fullmatch(text)), None)
        if odd is not None:
            yield key, f"is {odd!r}; it must be {wanted}"
    if "scheduler" in values:
        yield from _scheduler(values["scheduler"])
    if "scratch" in values:
        yield from _scratch(values["scratch"], "host" in values, home)
    if "sge_gpu_request" in values:
        yield from _gpu_request(values["sge_gpu_request"])


def _scheduler(name: str) -> Iterator[tuple[str, str]]:
    """Check the name. Entry points of other packages are slow to read, so only a name that is not built in needs them."""
    if name not in BUILT_IN and name not in backend_names():
        yield "scheduler", f"'{name}' is not known; the schedulers are {', '.join(backend_names())}"


def _scratch(path: str, remote: bool, home: Path) -> Iterator[tuple[str, str]]:
    whole = path if remote else expand(path, home)
    if not whole.startswith("/"):
        yield "scratch", f"is {path!r}; it must be an absolute path" + (" on the cluster" if remote else " or ~/...")
    elif ".." in whole.split("/"):
        yield "scratch", f"is {path!r}; it must not contain '..'"
    elif expand(whole, home) in _FORBIDDEN_ROOTS:
        yield "scratch", f"is {path!r}; it must be a folder of your own"
    elif remote and not _REMOTE_FOLDER.fullmatch(whole):
        yield "scratch", f"is {path!r}; letters, digits and _ . / @ + = ~ - are allowed"


def _gpu_request(template: str) -> Iterator[tuple[str, str]]:
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        yield "sge_gpu_request", f"is {template!r}: {error}"
        return
    odd = sorted(fields - {"count", "type"})
    if odd:
        yield "sge_gpu_request", f"has the field {{{odd[0]}}}; only {{count}} and {{type}} are filled in"
