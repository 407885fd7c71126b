"""The git commit of a repo, and the changes that are not in it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

GIT_TIMEOUT_SEC = 10.0
FILES_LISTED = 10


def git_state(root: Path, env: Mapping[str, str], pushed: Collection[str]) -> dict[str, Any]:
    """Return ``commit``, ``dirty``, ``changed`` (the first 10 files) and ``changed_count``, or ``unknown``: the reason.

    Dirty means: a tracked file below ``root`` differs from the commit, or one of the ``pushed`` files is not in the
    commit, be it ignored or not. Files in submodules are judged by git's own word on the submodule.
    """
    words = ["git", "-c", "core.fsmonitor=false", "-C", str(root)]
    # Without optional locks git does not write into the repo's index.
    variables = {**env, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [*words, *arguments], env=variables, capture_output=True, timeout=GIT_TIMEOUT_SEC, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout.decode(errors="surrogateescape")

    try:
        prefix = ask("rev-parse", "--show-prefix").rstrip("\n")
        commit = ask("rev-parse", "--verify", "HEAD").strip()
        status = ask("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", "--", ".").split("\0")
        entries = ask("ls-tree", "-r", "-z", "HEAD", "--", ".").split("\0")
    except FileNotFoundError:
        return {"unknown": "git is not installed here"}
    except subprocess.TimeoutExpired:
        return {"unknown": f"git gave no answer within {GIT_TIMEOUT_SEC:.0f} s"}
    except subprocess.CalledProcessError as error:
        text = error.stderr.decode(errors="replace")
        if "not a git repository" in text:
            return {"unknown": "the folder is in no git repository"}
        if "Needed a single revision" in text:
            return {"unknown": "the git repository has no commit yet"}
        return {"unknown": f"git: {(text.strip().splitlines() or ['failed'])[0][:200]}"}
    committed = {name: facts.split()[1] for facts, _, name in (entry.partition("\t") for entry in entries if entry)}
    submodules = tuple(f"{name}/" for name, kind in committed.items() if kind == "commit")
    new = (name for name in pushed if name not in committed and not name.startswith(submodules))
    changed = sorted({*new, *(line[3:].removeprefix(prefix) for line in status if line)})
    shown = [name.encode(errors="replace").decode() for name in changed[:FILES_LISTED]]
    return {"commit": commit, "dirty": bool(changed), "changed": shown, "changed_count": len(changed)}
