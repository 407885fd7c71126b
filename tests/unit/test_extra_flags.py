import re

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


@pytest.mark.parametrize(
    "flag",
    [
        "--signal=B:USR1@300",
        "--signal=B:SIGUSR1",
        "--signal=b:usr2@60",
        "--signal=B:10@60",
        "--signal=RB:HUP@60",
        "--sig=B:USR1",
    ],
)
def test_a_signal_to_the_batch_step_reaches_the_executor(flag):
    check_extra_flags("slurm", [flag])


@pytest.mark.parametrize(
    ("flag", "why", "remedy"),
    [
        ("--signal=USR1@60", "signals job steps alone", "Write --signal=B:USR1@60."),
        ("--signal=R:SIGUSR2@120", "signals job steps alone", "Write --signal=B:USR2@120."),
        ("--sig=10", "signals job steps alone", "Write --signal=B:USR1@60."),
        ("--signal=B:INT@90", "no signal but HUP, USR1, USR2 and TERM", "Write --signal=B:USR1@90."),
        ("--signal=B:9", "no signal but HUP, USR1, USR2 and TERM", "Write --signal=B:USR1@60."),
        ("--signal=B:@60", "no signal but", "Write --signal=B:USR1@60."),
        ("--signal", "no signal but", "Write --signal=B:USR1@60."),
        (
            "--signal=B:TERM@120",
            "10) seconds, not the 120",
            "--signal=B:USR1@120, or set HPC_PREEMPT_GRACE_SEC in env as well.",
        ),
    ],
)
def test_a_signal_that_would_not_reach_the_executor_is_refused_with_the_way_that_is_meant(flag, why, remedy):
    with pytest.raises(SpecInvalid, match=re.escape(why)) as caught:
        check_extra_flags("slurm", [flag])
    assert remedy in str(caught.value.remediation)


def test_a_longer_grace_goes_with_sigterm():
    check_extra_flags("slurm", ["--signal=B:TERM@120"], {"HPC_PREEMPT_GRACE_SEC": "110"})
