"""Random search, and quasi-random search: Halton's sequence with its digits permuted by the seed. No library."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

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
    def draw(again: int) -> dict[str, Any]:
        index = len(history.trials)
        if not again and manifest.strategy.name == "quasi_random":
            return halton_params(manifest, index)
        generator = random.Random(stream("random", manifest.seed, index, again))  # noqa: S311
        return params_at(manifest.space, [generator.random() for _ in manifest.space])

    while (params := fresh(manifest.space, history, draw)) is not None:
        yield Point(params)


def halton_params(manifest: Manifest, index: int) -> dict[str, Any]:
    return params_at(manifest.space, halton_point(len(manifest.space), index, manifest.seed))


def halton_point(dimensions: int, index: int, seed: int) -> list[float]:
    """Return point ``index`` of the scrambled Halton sequence: each digit of each base has a permutation of its own.

    Any first n points cover the cube more evenly than random ones (Owen, "A randomized Halton algorithm in R", 2017).
    """
    return [_radical_inverse(index, base, seed) for base in _primes(dimensions)]


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
def _primes(count: int) -> list[int]:
    numbers = (number for number in itertools.count(2) if all(number % factor for factor in range(2, number)))
    return list(itertools.islice(numbers, count))
