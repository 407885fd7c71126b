"""Ranges of task ids as text: a million tasks are ``"0-999999"``. A span is (first id, one past the last)."""

import re
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate, chain, starmap
from typing import Iterable, Iterator, List, Optional, Tuple


def encode_ranges(ids: Iterable[int]) -> str:
    """Return ``"0-2,7"`` for ``[0, 1, 2, 7]``: sorted, each id once; empty text for no ids."""
    found: List[List[int]] = []
    for value in sorted(set(ids)):
        if found and found[-1][1] == value:
            found[-1][1] = value + 1
        else:
            found.append([value, value + 1])
    return ",".join("%d" % start if stop == start + 1 else "%d-%d" % (start, stop - 1) for start, stop in found)


def ranges_of(state: bytearray, *values: int) -> str:
    """Return the ids in one of the states, as ranges. Works on runs of equal bytes: fast for a million tasks."""
    flags = state.translate(bytes(byte in values for byte in range(256)))
    # The search for a first byte is 100 times as fast as that for b"\1+".
    runs = (found.span() for found in re.finditer(b"\1\1*", flags))
    return ",".join("%d" % start if stop == start + 1 else "%d-%d" % (start, stop - 1) for start, stop in runs)


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


@lru_cache(maxsize=1024)
def _index(text: str) -> Tuple[List[Tuple[int, int]], List[int], List[int]]:
    """Return the spans, their first ids, and the position of each first id. Parsed once: scattered ids are long texts."""
    found = list(spans(text))
    lengths = accumulate(stop - start for start, stop in found)
    return found, [start for start, _ in found], [0, *lengths]


def position_of(text: str, task: int) -> Optional[int]:
    """Return the position of an id among all of them, or None. The ranges ascend, as ``encode_ranges`` returns them."""
    found, starts, positions = _index(text)
    at = bisect_right(starts, task) - 1
    return positions[at] + task - found[at][0] if at >= 0 and task < found[at][1] else None


def slice_spans(text: str, offset: int, length: int) -> Iterator[Tuple[int, int]]:
    """Yield the spans of the ids at positions ``offset`` .. ``offset + length - 1``."""
    found, _, positions = _index(text)
    end = offset + length
    for at in range(max(0, bisect_right(positions, offset) - 1), len(found)):
        start, stop = found[at]
        first = start + max(0, offset - positions[at])
        last = min(stop, start + end - positions[at])
        if first >= last:
            return
        yield first, last


def slice_ranges(text: str, offset: int, length: int) -> List[int]:
    """Return the ids at positions ``offset`` .. ``offset + length - 1``."""
    return list(chain.from_iterable(starmap(range, slice_spans(text, offset, length))))
