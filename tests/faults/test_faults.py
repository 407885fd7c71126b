"""Every fault of the registry, a few tries each; benchmarks/faults.py does many."""

from __future__ import annotations

import os

import pytest
from faults import all_faults, attempt

# What is decisive is done on every scheduler; of the rest every fault on one, in turn. HPC_TEST_ALL_FAULTS=1 does all.
DECISIVE = ("random instant", "though it accepted", "is killed", "down when submit comes", "at once")
EVERY = os.environ.get("HPC_TEST_ALL_FAULTS") == "1"


def sites_of(number, fault):
    if EVERY or len(fault.sites) == 1 or any(words in fault.name for words in DECISIVE):
        return fault.sites
    return fault.sites[number % len(fault.sites) :][:1]


CASES = [(f, site) for number, f in enumerate(x for x in all_faults() if x.in_tests) for site in sites_of(number, f)]


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    ("fault", "site"),
    [pytest.param(fault, site, id=f"{site}-{fault.name.replace(' ', '-')}") for fault, site in CASES],
)
def test_fault(fault, site, tmp_path):
    outcome, _ = attempt(fault, site, tmp_path / "bench", f"{fault.name} {site}")
    assert outcome.clean, str(outcome)
