"""The values of the repo's modules in a process that runs many tasks: each task finds those of the import.

A name that a task has bound to another object is bound to the first one again. An object that was changed in place cannot be
put back, but is seen, for objects of the usual kinds.
"""

import builtins
import datetime
import decimal
import enum
import fractions
import functools
import io
import logging
import pathlib
import re
import sys
import threading
import types
from collections import OrderedDict, defaultdict, deque
from typing import Any, Callable, Dict, List, Tuple

from .worker_random import restorer_of

# Their objects never change, or hold nothing that a result depends on.
CONSTANT = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis), type(NotImplemented), property,
    types.ModuleType, types.BuiltinFunctionType, type(str.join), type(object.__init__), types.GetSetDescriptorType,
    types.MemberDescriptorType, type(re.compile("")), pathlib.PurePath, enum.Enum, decimal.Decimal, fractions.Fraction,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, logging.Logger, type(threading.Lock()),
    type(threading.RLock()),
)  # fmt: skip
# Modules whose classes and instances are descriptions of types, or the tools of classes.
DESCRIBING = frozenset("typing typing_extensions abc _abc dataclasses enum".split())
CONTAINERS: Tuple[type, ...] = (list, dict, set, bytearray, deque, OrderedDict, defaultdict)
HOLDERS: Tuple[type, ...] = (types.SimpleNamespace,)
CACHE = type(functools.lru_cache()(len))
MOST = 5000  # objects: more are not looked at after each task


class Values(object):
    """The values of modules, as they are now."""

    def __init__(self, modules: Dict[str, types.ModuleType]) -> None:
        self._spaces = [(module, dict(module.__dict__)) for module in [builtins, *modules.values()]]
        self.own = frozenset(modules)
        self._copies: List[Tuple[str, Callable[[], Any], Any]] = []
        self._caches: List[Any] = []
        self._seen: Dict[int, Any] = {}  # the objects are kept, so that their numbers stay theirs
        self.unseen = ""  # the first value whose changes would not be seen
        for name, module in modules.items():
            for key, value in list(module.__dict__.items()):
                if not key.startswith("__") and not self._look(value, "%s.%s" % (name, key)) and not self.unseen:
                    self.unseen = "%s.%s" % (name, key)

    def put_back(self) -> str:
        """Put back the names. Return the name of a value that was changed in place; "" where there is none."""
        for cache in self._caches:
            cache.cache_clear()
        for name, current, copy in self._copies:
            if not _same(current(), copy):
                return name
        for module, values in self._spaces:
            now = module.__dict__
            if not _same(now, values):
                for name in set(now) - set(values):
                    del now[name]
                now.update(values)
        return ""

    def _look(self, value: Any, name: str) -> bool:
        """Keep what shows a change of the value. Return False where there is no such thing."""
        if isinstance(value, CONSTANT) or id(value) in self._seen:
            return True
        self._seen[id(value)] = value
        if len(self._seen) > MOST:
            return False
        kind = type(value)
        if kind in CONTAINERS:
            return self._look_inside(value, name)
        if kind in (tuple, frozenset, types.MappingProxyType):
            items = list(value.items()) if kind is types.MappingProxyType else value
            return all(self._look(item, name) for item in items)
        if isinstance(value, types.FunctionType):
            return self._look_at_function(value, name)
        if isinstance(value, (staticmethod, classmethod, types.MethodType)):
            return self._look(value.__func__, name)
        if isinstance(value, functools.partial):
            return all(self._look(part, name) for part in (value.func, value.args, value.keywords))
        if isinstance(value, CACHE):
            self._caches.append(value)
            return self._look(value.__wrapped__, name)
        if isinstance(value, io.IOBase):
            return value.closed or value in (sys.stdin, sys.stdout, sys.stderr)
        if isinstance(value, type):
            return self._look_at_class(value, name)
        return restorer_of(value) is not None or self._look_at_object(value, kind, name)

    def _look_inside(self, value: Any, name: str) -> bool:
        if len(value) > MOST:
            return False
        self._copies.append((name, lambda: value, value.copy()))
        if isinstance(value, bytearray):
            return True
        items = [part for item in value.items() for part in item] if isinstance(value, dict) else list(value)
        return all(self._look(item, name) for item in items)

    def _look_at_function(self, value: Any, name: str) -> bool:
        held = [value.__defaults__, value.__kwdefaults__]
        for cell in value.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # it is empty
                continue
        if value.__dict__:
            held.append(value.__dict__)
        return all(self._look(one, name) for one in held)

    def _look_at_class(self, value: Any, name: str) -> bool:
        if value.__module__ not in self.own:
            return True  # of a library
        self._copies.append((name, lambda: dict(vars(value)), dict(vars(value))))
        hidden = (
            "__dict__",
            "__weakref__",
            "__doc__",
            "__module__",
            "_abc_impl",
            "__dataclass_fields__",
            "__dataclass_params__",
        )
        return all(self._look(item, name) for key, item in vars(value).items() if key not in hidden)

    def _look_at_object(self, value: Any, kind: type, name: str) -> bool:
        if kind.__module__ in DESCRIBING:
            return True
        is_plain = all(one.__module__ in self.own or one is object for one in kind.__mro__)
        slots = any("__slots__" in vars(one) for one in kind.__mro__)
        if not hasattr(value, "__dict__") or slots or not (is_plain or kind in HOLDERS or _is_namespace(kind)):
            return False
        return self._look(value.__dict__, name)


def _is_namespace(kind: type) -> bool:
    return (kind.__module__, kind.__name__) == ("argparse", "Namespace")


def _same(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)  # items are compared only where they are other objects
    except Exception:  # noqa: BLE001 - such as two arrays
        return False
