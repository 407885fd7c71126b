"""The generators of random numbers of a process that runs other processes' tasks: each task finds them as a new process would."""

import random
import sys
from typing import Any, Callable, List, Optional, Set

from .unread_module import without_unread
from .worker_imports import own_modules


def restorers(root: str, seeded: Set[str]) -> List[Callable[[], Any]]:
    """Return what sets each generator before a task.

    ``seeded`` are those that a module of the repo has seeded when it was imported. They, and the generators that are values
    of such modules, get the state that they have now; the others are seeded anew.
    """
    found: List[Callable[[], Any]] = []
    for name, get, put in (("random", "getstate", "setstate"), ("numpy.random", "get_state", "set_state")):
        module: Any = sys.modules.get(name)
        if module is not None:
            found.append(_putting(module, get, put) if name in seeded else module.seed)
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "manual_seed"):  # new processes of this library all begin with the same numbers
        seed = torch.initial_seed()
        found += [lambda: torch.manual_seed(seed), _putting(torch, "get_rng_state", "set_rng_state")]
    seen = {id(getattr(random, "_inst", None))}
    for module in without_unread(own_modules(root)).values():
        for value in list(module.__dict__.values()):
            restore = restorer_of(value) if id(value) not in seen else None
            if restore is not None:
                seen.add(id(value))
                found.append(restore)
    return found


def restorer_of(value: Any) -> Optional[Callable[[], Any]]:
    """Return what puts back the state of a generator; None for any other value."""
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return _putting(value, "getstate", "setstate")
    numpy: Any = sys.modules.get("numpy.random")
    if isinstance(value, getattr(numpy, "RandomState", ())):
        return _putting(value, "get_state", "set_state")
    if isinstance(value, getattr(numpy, "Generator", ())):
        bits: Any = getattr(value, "bit_generator", None)
        state = bits.state
        return lambda: setattr(bits, "state", state)
    if isinstance(value, getattr(sys.modules.get("torch"), "Generator", ())):
        return _putting(value, "get_state", "set_state")
    return None


def _putting(place: Any, get: str, put: str) -> Callable[[], Any]:
    state = getattr(place, get)()
    return lambda: getattr(place, put)(state)
