"""Random search, and quasi-random search: Halton's sequence with its digits permuted by the seed. No library."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from hpc_agent.campaign.journal import History
from hpc_agent.campaign.manifest import Manifest
from hpc_agent.campaign.space import params_at
from hpc_agent.campaign.strategies.common import Point, fresh, params_of, stream

library = ""


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """These strategies have no params."""


def check(manifest: Manifest) -> None:
    params_of(manifest, NoParams)


def propose(manifest: Manifest, history: History) -> Iterator[Point]:
    dimensions, is_random = len(manifest.space), manifest.strategy.name == "random"
    while True:
        index = len(history.trials)

        def draw(again: int, index: int = index) -> dict[str, object]:
            if again or is_random:
                return params_at(manifest.space, random_point(dimensions, index, manifest.seed, again))
            return params_at(manifest.space, halton_point(dimensions, index, manifest.seed))

        params = fresh(manifest.space, history, draw)
        if params is None:
            return
        yield Point(params)


def random_point(dimensions: int, index: int, seed: int, again: int = 0) -> list[float]:
    """Return a uniform point of the unit cube, the same one for the same arguments."""
    generator = random.Random(stream("random", seed, index, again))  # noqa: S311
    return [generator.random() for _ in range(dimensions)]


def halton_point(dimensions: int, index: int, seed: int) -> list[float]:
    """Return point ``index`` of the scrambled Halton sequence: each digit of each base has a permutation of its own.

    Any first n points cover the cube more evenly than random ones (Owen, "A randomized Halton algorithm in R", 2017).
    """
    return [_radical_inverse(index, base, seed) for base in primes(dimensions)]


def _radical_inverse(index: int, base: int, seed: int) -> float:
    value, weight, digit = 0.0, 1.0 / base, 0
    while weight > 1e-17:
        index, rest = divmod(index, base)
        value += weight * _permutation(base, digit, seed)[rest]
        weight, digit = weight / base, digit + 1
    return min(value, 1.0 - 2.0**-53)


@lru_cache(maxsize=4096)
def _permutation(base: int, digit: int, seed: int) -> list[int]:
    order = list(range(base))
    random.Random(stream("halton", seed, base, digit)).shuffle(order)  # noqa: S311
    return order


@lru_cache(maxsize=64)
def primes(count: int) -> list[int]:
    """Return the first primes."""
    found: list[int] = []
    for number in itertools.count(2):
        if len(found) == count:
            break
        if all(number % prime for prime in found):
            found.append(number)
    return found
