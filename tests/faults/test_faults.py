"""Every fault of the registry, a few tries each; benchmarks/faults.py does many."""

from __future__ import annotations

import pytest
from faults import all_faults, attempt

CASES = [(fault, site) for fault in all_faults() if fault.in_tests for site in fault.sites]


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    ("fault", "site"),
    [pytest.param(fault, site, id=f"{site}-{fault.name.replace(' ', '-')}") for fault, site in CASES],
)
def test_fault(fault, site, tmp_path):
    outcome, _ = attempt(fault, site, tmp_path / "bench", f"{fault.name} {site}")
    assert outcome.clean, str(outcome)
