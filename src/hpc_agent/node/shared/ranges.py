"""Ranges of task ids as text: a million tasks are ``"0-999999"``. A span is (first id, one past the last)."""

from itertools import chain, starmap
from typing import Iterable, Iterator, List, Tuple


def encode_ranges(ids: Iterable[int]) -> str:
    """Return ``"0-2,7"`` for ``[0, 1, 2, 7]``: sorted, each id once; empty text for no ids."""
    found: List[List[int]] = []
    for value in sorted(set(ids)):
        if found and found[-1][1] == value:
            found[-1][1] = value + 1
        else:
            found.append([value, value + 1])
    return ",".join("%d" % start if stop == start + 1 else "%d-%d" % (start, stop - 1) for start, stop in found)


def decode_ranges(text: str) -> List[int]:
    """Return ``[0, 1, 2, 7]`` for ``"0-2,7"``. Raises ValueError on anything else."""
    return list(chain.from_iterable(starmap(range, spans(text))))


def spans(text: str) -> Iterator[Tuple[int, int]]:
    """Yield (0, 3), (7, 8) for ``"0-2,7"``. Raises ValueError on anything else."""
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError("not a range: %r" % part)
        yield int(first), int(last if dash else first) + 1


def count(text: str) -> int:
    return sum(stop - start for start, stop in spans(text))


def slice_spans(text: str, offset: int, length: int) -> Iterator[Tuple[int, int]]:
    """Yield the spans of the ids at positions ``offset`` .. ``offset + length - 1``."""
    end = offset + length
    position = 0
    for start, stop in spans(text):
        if position >= end:
            return
        first = start + max(0, offset - position)
        last = min(stop, start + end - position)
        if first < last:
            yield first, last
        position += stop - start


def slice_ranges(text: str, offset: int, length: int) -> List[int]:
    """Return the ids at positions ``offset`` .. ``offset + length - 1``."""
    return list(chain.from_iterable(starmap(range, slice_spans(text, offset, length))))
