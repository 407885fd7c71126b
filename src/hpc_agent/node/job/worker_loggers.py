"""The loggers of a process that runs many tasks: a handler that each task adds would print the lines of the next ones again."""

import logging
import sys
from typing import Any, Dict, List, Tuple

from .worker_imports import own_modules

Settings = Tuple[List[Any], List[Any], int, bool, bool]
NEW: Settings = ([], [], logging.NOTSET, True, False)


class Loggers(object):
    """The settings of all loggers before the first task."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._manager: Any = logging.Logger.manager
        self._known = {one: _settings(one) for one in self._every()}
        self._disabled: int = self._manager.disable

    def _every(self) -> List[logging.Logger]:
        named = [one for one in self._manager.loggerDict.values() if isinstance(one, logging.Logger)]
        return [logging.getLogger(), *named]

    def put_back(self) -> None:
        """Put back what a task has changed. A logger that it has made is as a new one, unless a library has made it."""
        if self._manager.disable != self._disabled:
            logging.disable(self._disabled)
        for one in self._every():
            now = _settings(one)
            before = self._known.get(one)
            if before is None:
                before = self._known[one] = now if self._is_of_library(one) else NEW
            if now != before:
                one.handlers[:], one.filters[:], level, one.propagate, one.disabled = before
                one.setLevel(level)

    def _is_of_library(self, logger: logging.Logger) -> bool:
        """Return True for a logger with the name of a library, which has set it up when it was imported."""
        top = logger.name.partition(".")[0]
        own: Dict[str, Any] = own_modules(self._root)
        return top in sys.modules and not any(name.partition(".")[0] == top for name in own)


def _settings(one: logging.Logger) -> Settings:
    return list(one.handlers), list(one.filters), one.level, one.propagate, one.disabled
