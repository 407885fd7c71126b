"""Write an entry into the user's clusters.yaml: the text of all others, with their comments, stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc_agent.errors import ConfigInvalid, PreconditionFailed
from hpc_agent.infra.cluster_checks import expand
from hpc_agent.infra.yaml_file import read_mapping
from hpc_agent.node.shared.files import write_bytes
from hpc_agent.state.repo_files import locked

_LOCK_SEC = 20.0
MADE_BY = "as 'hpc-agent clusters-add' found it"
_HEADER = (
    "# Your clusters, merged over those of hpc-agent key by key. 'hpc-agent capabilities --full' lists every key.\n"
)


def user_clusters_file(env: Mapping[str, str], home: Path) -> Path:
    """Return the file of the user's clusters, which may be missing."""
    override = env.get("HPC_CLUSTERS_CONFIG")
    return Path(expand(override, home)) if override else home / ".hpc-agent" / "clusters.yaml"


def entry_text(name: str, values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return an entry as it is written. A comment stands behind the line of its key; that of '' above the entry.

    A comment of a key that the entry lacks is a line at its end.
    """
    lines = [f"# {comments['']}"] if "" in comments else []
    lines.append(f"{_flow(name)}:")
    for key, value in values.items():
        remark = f"  # {comments[key]}" if key in comments else ""
        if isinstance(value, dict):
            lines += [f"  {key}:{remark}", *(f"    {inner}: {_flow(part)}" for inner, part in value.items())]
        else:
            lines.append(f"  {key}: {_flow(value)}{remark}")
    lines += [f"  # {text}" for key, text in comments.items() if key and key not in values]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value on one line."""
    import yaml

    return str(yaml.safe_dump(value, default_flow_style=True, width=10**6)).removesuffix("...\n").strip()


def write_entry(file: Path, name: str, text: str, *, replace: bool) -> bool:
    """Write an entry into the file, or in the place of the one of that name. Returns True where one was replaced.

    Two at once wait for each other, and a reader sees the old file or the new one. Raises ConfigInvalid for a file that
    cannot be read or extended, PreconditionFailed for a name that is taken.
    """
    try:
        return _write_entry(file.resolve(), name, text, replace=replace)  # a symbolic link stays one
    except (OSError, RuntimeError) as error:  # RuntimeError: links that point at each other
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigInvalid(
            f"{file} cannot be written: {why}",
            remediation=f"Let {file} be yours, or name another file in HPC_CLUSTERS_CONFIG.",
            details={"file": str(file), "entry": text},
        ) from error


def _write_entry(file: Path, name: str, text: str, *, replace: bool) -> bool:
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(file.name + ".lock"), _LOCK_SEC, f"{file}"):
        old = read_mapping(file) if file.exists() else {}
        refuse_taken(old, name, file, replace=replace)
        before = file.read_text(encoding="utf-8") if file.exists() else _HEADER
        after = with_entry(before, name, text)
        if not _keeps(old, after, name):
            raise ConfigInvalid(
                f"{file}: cannot be extended without changing other entries (a mapping in braces, anchors?)",
                remediation=f"Write the entry into {file} by hand: 'hpc-agent clusters-add' with --dry-run shows it.",
                details={"file": str(file), "entry": text},
            )
        write_bytes(str(file), after.encode(), keep_mode=True)
    return name in old


def refuse_taken(entries: Mapping[Any, Any], name: str, file: Path, *, replace: bool) -> None:
    """Raises PreconditionFailed for a name that the file has, unless it is to be replaced."""
    if name in entries and not replace:
        raise PreconditionFailed(
            f"{file} has a cluster '{name}' already",
            field="name",
            remediation=f"Look at it with 'hpc-agent clusters-describe {name}'; give another --name, or --replace.",
            details={"file": str(file), "cluster": name},
        )


def with_entry(before: str, name: str, text: str) -> str:
    """Return the file's text with the entry at its end, or in the place of the lines of the one of that name."""
    lines = before.splitlines(keepends=True)
    span = _lines_of(before, name)
    if span is None:
        gap = "" if not lines or not lines[-1].strip() else "\n"
        end = "" if not before or before.endswith("\n") else "\n"
        return f"{before}{end}{gap}{text}"
    first, last = span
    if first and MADE_BY in lines[first - 1]:
        first -= 1  # the comment above an entry of clusters-add is a part of it
    return "".join([*lines[:first], text, *lines[last + 1 :]])


def _lines_of(text: str, name: str) -> tuple[int, int] | None:
    """Return the first and the last line of an entry; comments behind its last value belong to what follows."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if root is not None and isinstance(root.value, list) else []:
        if key.value == name:
            return key.start_mark.line, max(key.end_mark.line, _last_line(value))
    return None


def _last_line(node: Any) -> int:
    if isinstance(node.value, str) or getattr(node, "flow_style", False) or not node.value:
        # A text in a block (| or >) ends at the line behind it.
        mark = node.end_mark
        return int(mark.line) - (1 if mark.column == 0 and mark.line > node.start_mark.line else 0)
    children = [part for child in node.value for part in (child if isinstance(child, tuple) else (child,))]
    return max(_last_line(child) for child in children)


def _keeps(old: Mapping[Any, Any], after: str, name: str) -> bool:
    """Return whether the new text has the new entry and every other one as it was."""
    import yaml

    try:
        new = yaml.safe_load(after)
    except yaml.YAMLError:
        return False
    others = {key: value for key, value in old.items() if key != name}
    return isinstance(new, dict) and name in new and {k: v for k, v in new.items() if k != name} == others
