"""Shorten an answer: the longest lists lose their ends, and what was left out is counted, field by field."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hpc_agent.contract.vocabulary import ADVICE

# Items that each list, and characters that each text keeps at least; when that is not enough the next pair counts.
_LEAST = ((20, 1200), (12, 400), (8, 160), (3, 160), (1, 160), (0, 160))
_COUNT = 40  # bytes that a count may need
_MAP = 20  # an object with more keys than this, all with values of one kind, is a map and no record
_KEPT = frozenset((*ADVICE, "raise_command", "whole_answer", "left_out", "spec"))

Path = tuple[str | int, ...]


def shorten(document: dict[str, Any], most: int, kept: Collection[str] = (), spare: Sequence[str] = ()) -> None:
    """Cut lists, maps and texts of ``document`` in place until it has ``most`` bytes; ``left_out`` gets the counts.

    The largest part is cut first: a list at its end, a text in the middle, as a log has its last words at the end. Advice,
    and the fields ``kept``, stay whole. Before all that go the parts at the paths ``spare``, those of the last items first.
    """
    cuts: dict[Path, int] = {}
    for pattern in spare:
        _give_up(document, pattern, most, cuts)
    for items, characters in _LEAST:
        while _cut_largest(document, items, most, {*_KEPT, *kept}, cuts):
            pass
        while _cut_longest_text(document, characters, most, {*_KEPT, *kept}, cuts):
            pass


def _give_up(document: dict[str, Any], pattern: str, most: int, cuts: dict[Path, int]) -> None:
    """Take out the parts that a pattern names, from the last on, until the document is small enough."""
    excess = _size(document, cuts) + _COUNT - most
    for path in reversed(list(_matching(document, f"data.{pattern}"))):
        if excess <= 0:
            return
        *way, last = path
        excess -= len(msgspec.json.encode({last: _at(document, way).pop(last)})) - 1
        cuts[path] = 1


def _size(document: dict[str, Any], cuts: dict[Path, int]) -> int:
    document["left_out"] = _counts(document, cuts)
    return len(msgspec.json.encode(document))


def _counts(document: dict[str, Any], cuts: dict[Path, int]) -> dict[str, int]:
    """Return what was cut, by the names on the way; what stood in a part that was cut away later is in that part's count."""
    counts: dict[str, int] = {}
    for path, number in cuts.items():
        if _there(document, path[:-1]):
            name = "".join("[]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
            name = name.removeprefix("data.")
            counts[name] = counts.get(name, 0) + number
    return counts


def _matching(document: Any, pattern: str) -> Iterator[Path]:
    """Yield the paths of the parts that a pattern such as ``data.rows[].log`` names."""
    head, _, rest = pattern.partition(".")
    name = head.removesuffix("[]")
    if not isinstance(document, dict) or name not in document:
        return
    if not rest:
        yield (name,)
    elif head.endswith("[]"):
        for number, item in enumerate(document[name]):
            yield from ((name, number, *path) for path in _matching(item, rest))
    else:
        yield from ((name, *path) for path in _matching(document[name], rest))


def _at(document: Any, path: Iterable[str | int]) -> Any:
    for step in path:
        document = document[step]
    return document


def _there(document: Any, path: Path) -> bool:
    try:
        _at(document, path)
    except (IndexError, KeyError, TypeError):
        return False
    return True


def _cut_largest(document: dict[str, Any], least: int, most: int, kept: set[str], cuts: dict[Path, int]) -> bool:
    """Cut the largest list or map that has more than ``least`` items. Return whether there is more to be done."""
    excess = _size(document, cuts) - most
    if excess <= 0:
        return False
    found = [
        (len(msgspec.json.encode(part)), path, part)
        for path, part in _parts(document, (), kept)
        if isinstance(part, list | dict) and len(part) > max(least, _MAP if isinstance(part, dict) else 0)
    ]
    if not found:
        return False
    _, path, part = max(found, key=lambda row: row[0])
    keys: list[Any] = list(part) if isinstance(part, dict) else list(range(len(part)))
    number = len(keys)
    while len(keys) > least and excess > -_COUNT:
        excess -= len(msgspec.json.encode(part[keys[-1]])) + 1
        keys.pop()
    _keep(part, keys)
    cuts[path] = cuts.get(path, 0) + number - len(keys)
    return True


def _keep(part: Any, keys: list[Any]) -> None:
    if isinstance(part, list):
        del part[len(keys) :]
        return
    for key in list(part)[len(keys) :]:  # as in a list, the first ones are kept
        del part[key]


def _cut_longest_text(document: dict[str, Any], least: int, most: int, kept: set[str], cuts: dict[Path, int]) -> bool:
    excess = _size(document, cuts) - most
    texts = [
        (len(part), path) for path, part in _parts(document, (), kept) if isinstance(part, str) and len(part) > least
    ]
    if excess <= 0 or not texts:
        return False
    length, path = max(texts)
    holder = _at(document, path[:-1])
    text = holder[path[-1]]
    keep = max(least - 40, length - excess - 80)
    gap = length - keep
    head = keep // 3
    holder[path[-1]] = f"{text[:head]} [... {gap} characters ...] {text[head + gap :]}"
    cuts[path] = cuts.get(path, 0) + gap
    return True


def _parts(value: Any, path: Path, kept: set[str]) -> Iterator[tuple[Path, Any]]:
    """Yield the lists, maps and texts below a value, without those of fields that are kept."""
    if isinstance(value, dict):
        if len(value) > _MAP and len({type(item) for item in value.values()}) == 1:
            yield path, value
        for key, item in value.items():
            if key not in kept:
                yield from _parts(item, (*path, key), kept)
        return
    if isinstance(value, list | str):
        yield path, value
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _parts(item, (*path, number), kept)
