"""The frames of a packed element's log, by task. A frame is parsed when it is asked for: most are not."""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .element_log import BEGIN, RECORD, START, Begun, Ended, begun_of, ended_of, sound_lines


class Output(NamedTuple):
    """Where in the combined log of a slot the output of a task lies. ``length`` None: all after ``offset``."""

    slot: int
    offset: int
    length: Optional[int]


class ElementFrames(object):
    """The frames of one log. A frame that was written twice, after an error of the disk, counts once."""

    def __init__(self, data: bytes) -> None:
        self._starts: List[Dict[str, Any]] = [{}]
        self._begun: Dict[int, List[Tuple[int, bytes]]] = {}  # task -> (position, frame), oldest first
        self._ended: Dict[int, List[Tuple[int, int, bytes]]] = {}  # task -> (position, start, frame)
        for position, text in enumerate(sound_lines(data)):
            try:
                self._take(position, text)
            except (ValueError, TypeError):
                continue  # its checksum is right, so that another version has written it

    def _take(self, position: int, text: bytes) -> None:
        kind = text[:1]
        if kind == RECORD:
            ended = self._ended.setdefault(int(text.split(b" ", 2)[1]), [])
            if all(known != text for _, _, known in ended):
                ended.append((position, len(self._starts) - 1, text))
        elif kind == BEGIN:
            begun = self._begun.setdefault(int(text.split(b" ", 2)[1]), [])
            if all(known != text for _, known in begun):
                begun.append((position, text))
        elif kind == START:
            start = dict(json.loads(text[2:].decode("ascii")))
            if start not in self._starts:
                self._starts.append(start)

    def begun(self, task: int) -> List[Begun]:
        """Return the begins of a task, oldest first."""
        return [begun_of(text) for _, text in self._begun.get(task, ())]

    def ended(self, task: int) -> List[Tuple[Dict[str, Any], Ended]]:
        """Return the records of a task, oldest first, each with the start (job, host, at) of its element."""
        return [(self._starts[start], ended_of(text)) for _, start, text in self._ended.get(task, ())]

    def output(self, task: int) -> Optional[Output]:
        """Return where the output of the task's latest attempt lies; None where it has no attempt."""
        begun, ended = self._begun.get(task), self._ended.get(task)
        if ended and (not begun or ended[-1][0] > begun[-1][0]):
            last = ended_of(ended[-1][2])
            return Output(last.slot, last.offset, last.length)
        if not begun:
            return None
        position, text = begun[-1]
        mine = begun_of(text)
        # It runs, or was killed: then what the slot printed next is of the task that it began next.
        later = (row for rows in self._begun.values() for row in rows if row[0] > position)
        following = (begun_of(row[1]) for row in sorted(later))
        end = next((one.offset for one in following if one.slot == mine.slot), None)
        return Output(mine.slot, mine.offset, None if end is None else max(0, end - mine.offset))
