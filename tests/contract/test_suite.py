"""The suite itself."""

import pytest


def test_the_tests_of_one_scheduler_stay_together(request):
    """They stop its daemons and fill its queue. pytest 9.2 renamed what xdist 3.8 sets, and nothing said so."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("needs pytest -n N --dist loadgroup")
    grouped = [item for item in request.session.items if item.get_closest_marker("xdist_group")]
    apart = [item.nodeid for item in grouped if not item.nodeid.endswith(("@slurm", "@sge"))]
    assert not apart, f"xdist ignores the groups of {len(apart)} of {len(grouped)} tests"
