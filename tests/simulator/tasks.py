"""How long our tasks take and how they end: a function of seed, task and attempt alone, so that a run can be repeated."""

import math
from dataclasses import dataclass

_MASK = (1 << 64) - 1


def draw(*numbers: int) -> float:
    """Return a number in [0, 1) that these numbers choose (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state / 2**64


@dataclass(frozen=True)
class TaskModel:
    """The tasks of one run. Seconds are spread evenly around the mean; ``longest`` of the tail are five times as long."""

    mean_sec: float = 60.0
    spread: float = 0.5
    tail: float = 0.01
    wrong: float = 0.0  # share of tasks that fail by their own code in every attempt, which recovery must not run again
    seed: int = 0

    def seconds(self, task: int) -> float:
        stretch = 5.0 if draw(self.seed, task, 1) < self.tail else 1.0
        return self.mean_sec * (1 + self.spread * (2 * draw(self.seed, task, 2) - 1)) * stretch

    def is_wrong(self, task: int) -> bool:
        return draw(self.seed, task, 3) < self.wrong

    def work(self, tasks: int) -> float:
        """Return the seconds of all tasks together."""
        return math.fsum(map(self.seconds, range(tasks)))

    def longest(self, tasks: int) -> float:
        return max(map(self.seconds, range(tasks)))
