import pytest

from hpc_agent.errors import ExecutorNotFound, SpecInvalid
from hpc_agent.experiment.reading.executors import check_command, check_program

FILES = {"train.py": False, "bin/run": True, "bin/plain": False, "executors/a.py": False}


@pytest.mark.parametrize(
    "executor",
    [
        "python3 train.py --lr $LR",
        "python3.11 ./train.py",
        "LR=1 X=2 python3 -u train.py",
        "bin/run --x",
        "/usr/bin/env python3 train.py",
        "my-tool --x",
        "python3 -m package.module",
        "python3 -c 'print(1)'",
        'python3 "executors/$NAME.py"',
        'python3 executors/"${HPC_KW_NAME}".py',
        "python3 $SOMEWHERE/train.py",
        "python3 /abs/elsewhere.py",
        "cd sub && python3 other.py",
        "unbalanced 'quote",
        "python3 train.py; python3 executors/a.py",
        "bash train.py;echo done",
        "python3 train.py>log.txt",
        "python3 train.py 2>&1|tee x",
        "python3 train.py&&python3 executors/a.py",
        "python3 train.py||true",
        "python3 train.py&",
        "python3 train.py<in.txt",
        "python3 2>errors.txt train.py",
        "bash <x.sh",
        "(python3 x.py)",
        "python3 $(which x.py)",
        'bash -lc "python3 a.py"',
        'bash -ec "python3 a.py"',
        'sh -ic "python3 a.py"',
        'python3 -uc "import a.b"',
        "python3 -um package.module",
        "perl -ne 'print a.b'",
        "python3 -W ignore::a.Warning train.py",
        "bash -euo pipefail train.py",
        "python3 executors/../train.py",
        "python3 .//train.py",
    ],
)
def test_what_is_there_or_cannot_be_known_passes(executor):
    check_program(executor, [{"name": "a"}], FILES)


@pytest.mark.parametrize(
    ("executor", "path"),
    [
        ("python3 trian.py", "trian.py"),
        ("bin/nothing", "bin/nothing"),
        ("Rscript model.R", "model.R"),
        ('python3 "executors/$NAME.py"', "executors/b.py"),
        ("bin/plain", "bin/plain"),
        ("python3 trian.py; python3 train.py", "trian.py"),
        ("python3 trian.py>log.txt", "trian.py"),
        ("bash -e x.sh", "x.sh"),
        ("bash -euo pipefail x.sh|tee log", "x.sh"),
        ("python3 -s trian.py", "trian.py"),
        ("python3 executors/../trian.py", "trian.py"),
        ("python3 >log.txt trian.py", "trian.py"),
    ],
)
def test_what_is_not_there_is_named_with_its_task(executor, path):
    with pytest.raises(ExecutorNotFound) as caught:
        check_program(executor, [{"name": "a"}, {"name": "b"}], FILES)
    assert caught.value.details["path"] == path


@pytest.mark.parametrize("executor", ["", "  \n", "a\0b"])
def test_no_command_at_all(executor):
    with pytest.raises(SpecInvalid):
        check_command(executor)
