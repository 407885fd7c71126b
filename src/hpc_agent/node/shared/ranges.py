"""Slices of task-id ranges without spelling them out: a million-task array is one short text."""

from typing import Iterable, Iterator, List, Optional, Tuple


def spans(text: str) -> Iterator[Tuple[int, int]]:
    """``"0-2,7"`` -> (0, 3), (7, 8): first id and one past the last."""
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        yield int(first), int(last if dash else first) + 1


def count(text: str) -> int:
    return sum(stop - start for start, stop in spans(text))


def slice_ranges(text: str, offset: int, length: int) -> List[int]:
    """The ids at positions ``offset`` .. ``offset + length - 1`` of the ranges."""
    ids: List[int] = []
    for start, stop in spans(text):
        size = stop - start
        if offset < size:
            take = min(size - offset, length - len(ids))
            ids.extend(range(start + offset, start + offset + take))
            if len(ids) == length:
                return ids
            offset = 0
        else:
            offset -= size
    return ids


def slice_spans(text: str, offset: int, length: int) -> Iterator[Tuple[int, int]]:
    """The same positions as spans: first id and one past the last."""
    for start, stop in spans(text):
        size = stop - start
        if offset < size and length > 0:
            take = min(size - offset, length)
            yield start + offset, start + offset + take
            length -= take
            offset = 0
        else:
            offset -= size if length > 0 else 0
        if length <= 0:
            return


def encode_ranges(ids: Iterable[int]) -> str:
    """``[0, 1, 2, 7]`` -> ``"0-2,7"``: sorted, duplicates folded, empty text for no ids."""
    parts: List[str] = []
    first: Optional[int] = None
    last: Optional[int] = None
    for value in sorted(set(ids)):
        if last is not None and value == last + 1:
            last = value
            continue
        if first is not None and last is not None:
            parts.append(_one_range(first, last))
        first = last = value
    if first is not None and last is not None:
        parts.append(_one_range(first, last))
    return ",".join(parts)


def _one_range(first: int, last: int) -> str:
    return "%d" % first if first == last else "%d-%d" % (first, last)


def decode_ranges(text: str) -> List[int]:
    """``"0-2,7"`` -> ``[0, 1, 2, 7]``. Raises ValueError on anything else."""
    ids: List[int] = []
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError("not a range: %r" % part)
        ids.extend(range(int(first), int(last if dash else first) + 1))
    return ids
