"""Read YAML files that people write: a key that is given twice is an error, and errors name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_agent.errors import ConfigInvalid
from hpc_agent.state.user_files import read_user_file


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the mapping in a file; it is empty for an empty file.

    Raises ConfigInvalid, which names file and line, when the file cannot be read, is no YAML, is no mapping, or has a
    key twice (PyYAML would take the last one and say nothing).
    """
    import yaml

    loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_type(read_user_file(path))
        try:
            node = loader.get_single_node()
            _refuse_duplicate_keys(path, node)
            document = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        raise _invalid(path, None, f"cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _invalid(path, mark.line + 1 if mark else None, error.problem or str(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _invalid(path, None, f"is not YAML: {str(error).splitlines()[0]}") from error
    if document is not None and not isinstance(document, dict):
        raise _invalid(path, 1, f"must be a mapping, not a {type(document).__name__}")
    return document or {}


def _refuse_duplicate_keys(path: Path, root: Any) -> None:
    """Check the nodes before they become dicts, which would keep only one of two equal keys."""
    waiting, known = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or isinstance(node.value, str) or id(node) in known:
            continue
        known.add(id(node))
        keys = set()
        for child in node.value:
            if not isinstance(child, tuple):
                waiting.append(child)
                continue
            key, value = child
            waiting.append(value)
            if isinstance(key.value, str):
                if (key.tag, key.value) in keys:
                    raise _invalid(path, key.start_mark.line + 1, f"the key '{key.value}' is given twice")
                keys.add((key.tag, key.value))


def _invalid(path: Path, line: int | None, complaint: str) -> ConfigInvalid:
    where = f"{path}, line {line}" if line else str(path)
    return ConfigInvalid(
        f"{where}: {complaint}",
        remediation=f"Correct {path}, then run 'hpc-agent clusters-list'.",
        details={"file": str(path), "line": line},
    )
