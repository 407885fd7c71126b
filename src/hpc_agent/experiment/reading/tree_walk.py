"""The walk over a repo's files, without the files that ignore rules match."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pathspec


class IgnoreRules(NamedTuple):
    """Patterns in the syntax of .gitignore for the paths below ``folder``, which is relative to the repo."""

    folder: str
    patterns: pathspec.GitIgnoreSpec

    def match(self, path: str, is_folder: bool) -> bool:
        below = path[len(self.folder) + 1 :] if self.folder else path
        return bool(self.patterns.match_file(below + ("/" if is_folder else "")))


# (folder, its path from the root, the rules around it) -> the rules inside; None for a folder that is left out.
EnterFolder = Callable[[str, str, list[IgnoreRules]], list[IgnoreRules] | None]


def ignore_rules(folder: str, lines: list[str]) -> IgnoreRules:
    """Return the rules that these lines are. Raises ValueError for a line that is no pattern."""
    import pathspec

    return IgnoreRules(folder, pathspec.GitIgnoreSpec.from_lines(lines))


def walk(
    root: Path,
    start: str,
    rules: list[IgnoreRules],
    enter: EnterFolder = lambda _folder, _relative, rules: rules,
    suffixes: tuple[str, ...] = ("",),
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield each file and symbolic link below ``start``, with its path from ``root``, in the order of names."""
    for item in sorted(os.scandir(root / start), key=lambda item: item.name):
        relative = f"{start}/{item.name}" if start else item.name
        is_folder = item.is_dir(follow_symlinks=False)
        if not is_folder and not item.name.endswith(suffixes):
            continue
        if any(rule.match(relative, is_folder) for rule in rules):
            continue
        if not is_folder:
            yield item, relative
            continue
        inner = enter(item.path, relative, rules)
        if inner is not None:
            yield from walk(root, relative, inner, enter, suffixes)
