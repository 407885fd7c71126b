"""tasks.py in a process that runs tasks: a module like any other, of which is known whether somebody has used it.

What nobody has used nobody has changed. So its values need not be looked at after each task: a run of 100,000 has as many rows.
"""

import sys
import types
from typing import Any, Callable, Dict

# What those ask a module who go through all of them.
_NO_USE = frozenset(("__class__", "__file__", "__name__", "__path__"))


class Unread(types.ModuleType):
    """A module that nobody has used; the first use, an import included, makes it a plain one."""

    def __getattribute__(self, name: str) -> Any:
        if name not in _NO_USE:
            _use(self)
        return types.ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _use(self)
        types.ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _use(self)
        types.ModuleType.__delattr__(self, name)


def _use(module: types.ModuleType) -> None:
    object.__setattr__(module, "__class__", types.ModuleType)


def mark_unread(module: types.ModuleType) -> None:
    """See to it that a use of the module is noted. One that has put something else in its place stays as it is."""
    if type(module) is types.ModuleType and sys.modules.get(module.__name__) is module:
        module.__class__ = Unread


def is_unread(module: types.ModuleType) -> bool:
    return type(module) is Unread


def without_unread(modules: Dict[str, types.ModuleType]) -> Dict[str, types.ModuleType]:
    return {name: module for name, module in modules.items() if not is_unread(module)}


def loader_for(program: Dict[str, Any], tasks: types.ModuleType) -> Callable[[], Any]:
    """Return the ``load_tasks`` of .hpc/cli.py, which gives its ``main`` what that reads of tasks.py, without a use of it.

    A task that calls it has tasks.py loaded anew, as in a process of its own.
    """
    read = {name: getattr(tasks, name) for name in ("FLAGS", "STARTS") if hasattr(tasks, name)}
    known, load, main = types.SimpleNamespace(**read), program["load_tasks"], program["main"]

    def load_tasks() -> Any:
        return known if sys._getframe(1).f_code is main.__code__ else load()

    return load_tasks
