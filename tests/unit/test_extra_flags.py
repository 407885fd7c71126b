import pytest

from hpc_agent.errors import SpecInvalid
from hpc_agent.infra.extra_flags import check_extra_flags


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("slurm", ["--reservation=x", "--nice=5", "--hold", "-Cbig", "--exclusive=user", "--mail-type=END"]),
        ("sge", ["-l", "mem_free=4G", "-p", "-10", "-notify", "-m", "e"]),
        ("local", []),
        ("lsf", ["--anything"]),
    ],
)
def test_what_a_site_may_want(scheduler, words):
    check_extra_flags(scheduler, words)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("slurm", ["--array=0-0"]),
        ("slurm", ["--arr=0-0"]),
        ("slurm", ["-a0-0"]),
        ("slurm", ["/usr/bin/ldd"]),
        ("slurm", ["--nice=5", "script.sh"]),
        ("slurm", ["--export=NONE"]),
        ("slurm", ["--job-name=foo"]),
        ("slurm", ["-J", "foo"]),
        ("slurm", ["--test-only"]),
        ("slurm", ["--help"]),
        ("slurm", ["-Q"]),
        ("slurm", ["--"]),
        ("slurm", ["--nice=5\n"]),
        ("sge", ["-t", "1-1"]),
        ("sge", ["/usr/bin/ldd"]),
        ("sge", ["-notify", "/usr/bin/ldd"]),
        ("sge", ["-l", "mem=4G", "script.sh"]),
        ("sge", ["-N", "foo"]),
        ("sge", ["-b", "y"]),
        ("local", ["--nice=5"]),
    ],
)
def test_what_would_take_the_ground_from_the_submission(scheduler, words):
    with pytest.raises(SpecInvalid) as caught:
        check_extra_flags(scheduler, words)
    assert caught.value.field == "extra_flags"
