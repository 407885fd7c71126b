"""What a value of clusters.yaml may look like. Many of them end up in a command line on the cluster."""

from __future__ import annotations

import difflib
import posixpath
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

_SHAPES = {
    "host": _NAME,
    "user": _NAME,
    "python": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*|/[A-Za-z0-9_./+=@-]+"), "a program name or an absolute path"),
    "shell_init": _ABSOLUTE,
    "conda_source": _ABSOLUTE,
    "nfs_data_dir": _ABSOLUTE,
    "ssh_config": (re.compile(r"(?!-|~[^/]).+"), "a path on this machine, relative to this file, absolute or ~/..."),
    "modules": _WORD,
    "conda_envs": _WORD,
    "gpu_types": _WORD,
    "gpu_queues": _WORD,
    "account": _WORD,
    "default_partition": _WORD,
    "gpu_constraint": _WORD,
    "parallel_environment": _NAME,
    "sge_memory_resource": _NAME,
    "sge_gpu_request": (re.compile(r"[A-Za-z0-9_.,=*{}-]+"), "resources such as gpu,{type},cuda={count}"),
}


def expand(path: str, home: Path) -> str:
    """``~`` against ``home``; duplicate slashes and the one at the end removed."""
    if path == "~" or path.startswith("~/"):
        path = f"{home}{path[1:]}"
    whole = posixpath.normpath(path)
    return "/" + whole.lstrip("/") if whole.startswith("/") else whole


def unknown_key(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"is not a known key; did you mean '{close[0]}'?" if close else "is not a known key"


def refuse_placeholders(value: Any) -> None:
    """Raises ValueError for a placeholder such as ``<your_user>`` or a control character anywhere in the value."""
    for text in _texts(value):
        found = _PLACEHOLDER.search(text)
        if found:
            raise ValueError(f"still has the placeholder {found.group()}; it needs your own value")
        if _CONTROL.search(text):
            raise ValueError(f"has a control character: {text!r}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def complaints_about(values: dict[str, Any], home: Path) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) for every value of the right type but of no use."""
    for key, (shape, wanted) in _SHAPES.items():
        odd = next((text for text in _words(values.get(key, [])) if not shape.fullmatch(text)), None)
        if odd is not None:
            yield key, f"is {odd!r}; it must be {wanted}"
    if "scheduler" in values:
        yield from _scheduler(values["scheduler"])
    if "scratch" in values:
        yield from _scratch(values["scratch"], "host" in values, home)
    if "sge_gpu_request" in values:
        yield from _gpu_request(values["sge_gpu_request"])


def _words(value: Any) -> list[str]:
    """The value, the items of a list, or the queues of a mapping and the names of their GPUs."""
    if isinstance(value, dict):
        return [*value, *(queue.name for queue in value.values())]
    return [value] if isinstance(value, str) else list(value)


def _scheduler(name: str) -> Iterator[tuple[str, str]]:
    """Other packages' entry points are only read for a name that is not built in: it is slow."""
    from hpc_agent.node.shared.scheduler_names import BUILT_IN

    if name in BUILT_IN:
        return
    from hpc_agent.infra.backends import backend_names

    known = backend_names()
    if name not in known:
        yield "scheduler", f"'{name}' is not known; the schedulers are {', '.join(known)}"


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
