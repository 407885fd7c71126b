"""What a row records with. It runs in a process of its own and tells each event as a line of JSON at once, so that what was
measured before a kill is known."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import testbed  # noqa: E402

__all__ = ["ROOT", "Bench", "SideFailed", "testbed"]
Side = Callable[[], float]


class SideFailed(Exception):
    """One side of a row cannot be installed or run; the other sides go on."""


class Bench:
    """The recorder of one row. ``quick`` asks for small sizes."""

    def __init__(
        self, folder: Path, quick: bool, peers: bool, aim_sec: float, limit_sec: float, events: TextIO
    ) -> None:
        self.folder, self.quick, self.peers = folder, quick, peers
        self._aim = time.monotonic() + aim_sec
        self._end = time.monotonic() + limit_sec
        self._events = events

    def tell(self, **event: Any) -> None:
        self._events.write(json.dumps(event) + "\n")
        self._events.flush()

    def step(self, text: str) -> None:
        """Say what is done now, for whoever watches."""
        self.tell(step=text)

    def take(self, name: str, *values: float, unit: str = "s", count: int = 1, floor: str = "", note: str = "") -> None:
        """Record repetitions of a side; ``count`` tasks share each value."""
        measure = {"name": name, "unit": unit, "values": [float(value) for value in values], "count": count}
        self.tell(measure={**measure, "floor": floor, "note": note})

    def skip(self, name: str, why: str) -> None:
        self.tell(skipped={"name": name, "why": " ".join(str(why).split())[:300]})

    def versions(self, **names: str) -> None:
        self.tell(versions={name.replace("_", "-"): version for name, version in names.items()})

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def left(self) -> float:
        """Seconds until the row's time-out."""
        return self._end - time.monotonic()

    def longest_side(self) -> float:
        """Seconds after which a side is given up, so that the others can be measured."""
        return self.left() * 0.6

    def site(self, name: str) -> testbed.Site:
        """The test bed's site with a scratch folder of its own. Raises SideFailed where it is not up."""
        reason = testbed.why_not(name)
        if reason:
            raise SideFailed(f"{name} is not up ({reason}); bring it up with: {testbed.REMEDY}")
        site = testbed.make_site(name, self.folder)
        self.tell(site=dataclasses.asdict(site))
        return site

    def alternate(self, sides: Mapping[str, Side], rounds: int, *, count: int = 1, floor: str = "") -> None:
        """Measure the sides in turn, A B A B. A side that fails is skipped from then on, and one for which no time is left is
        not measured again."""
        going, took = dict(sides), dict.fromkeys(sides, 0.0)
        for number in range(rounds):
            for name, side in list(going.items()):
                begun = time.monotonic()
                if number and self._aim - begun < took[name]:
                    continue
                self.step(f"{name}, round {number + 1} of {rounds}")
                try:
                    self.take(name, side(), count=count, floor=floor)
                except SideFailed as error:
                    self.skip(name, str(error))
                    del going[name]
                took[name] = time.monotonic() - begun
