"""Group what is to be told of metrics: one entry for each field and message, with the tasks that have the problem."""

from typing import Any, Dict, List, Optional, Tuple

from .ranges import decode_ranges, encode_ranges

SHOWN = 20  # in an answer
RANGES_SHOWN = 200  # characters
COUNTED_AS_NAN = "null, empty or text among numbers: counted in nan_count"
PLAIN_TEXT = "left out: text"


class MetricProblems(object):
    """Problems by message and field. Plain text comes last: such a field seldom was to be a number."""

    def __init__(self) -> None:
        self._groups: Dict[Tuple[str, str], Dict[str, Any]] = {}

    def add(self, tasks: List[int], message: str, field: Optional[str] = None, value: str = "") -> None:
        group = self._groups.setdefault((message, field or ""), {"field": field, "message": message, "value": value})
        group.setdefault("members", []).extend(tasks)

    def merge(self, documents: List[Dict[str, Any]]) -> None:
        for entry in documents:
            tasks = entry.get("tasks", str(entry["task"]))  # without ranges in runs of an earlier version
            self.add(decode_ranges(tasks), entry["message"], entry.get("field"), entry.get("value", ""))

    def to_json(self) -> List[Dict[str, Any]]:
        """Return {task (the first), field, message, value (a sample), count and tasks (ranges)}; no field for a whole file."""
        found = []
        for group in self._groups.values():
            entry = {key: value for key, value in group.items() if value and key != "members"}
            members = group["members"]
            found.append(dict(entry, task=min(members), count=len(members), tasks=encode_ranges(members)))
        return sorted(found, key=lambda e: (e["message"] == PLAIN_TEXT, e["task"], e.get("field", "")))
