"""A verb called inside this process: its errors, and the advice of its answer."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from hpc_agent.contract.any_error import as_hpc_error
from hpc_agent.contract.primitive import REGISTRY, Request, Result, load_all
from hpc_agent.errors import BY_CODE, HpcError
from hpc_agent.ops.run.invoke import catalogue, invoke
from hpc_agent.world import World


class Item(msgspec.Struct, frozen=True):
    name: str
    remedy: str


class Answer(Result):
    next_step: str
    items: list[Item] = []
    details: dict[str, Any] = {}
    text: str = "hpc-agent status"


@pytest.fixture
def status(monkeypatch):
    """Replaces the function of ``status``."""
    load_all()

    def replace(function):
        known = REGISTRY["status"]
        monkeypatch.setitem(REGISTRY, "status", with_function(known, function))

    return replace


def with_function(known, function):
    return type(known)(**{**vars(known), "function": function})


def test_commands_in_an_answer_are_whole(status):
    item = Item("a", "hpc-agent logs --run-id r")
    status(
        lambda request, world: Answer(next_step="hpc-agent status", items=[item], details={"fix": "hpc-agent resubmit"})
    )
    answer = invoke("status", {"run_id": "r1", "experiment_dir": "my repo"}, World())
    assert isinstance(answer, Answer)
    assert answer.next_step == "hpc-agent status --run-id r1 --experiment-dir 'my repo'"
    assert answer.items == [Item("a", "hpc-agent logs --experiment-dir 'my repo' --run-id r")]
    assert answer.details == {"fix": "hpc-agent resubmit --experiment-dir 'my repo'"}
    assert answer.text == "hpc-agent status"
    assert item.remedy == "hpc-agent logs --run-id r"  # the verb's own object is as it was


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "storage_full", "/x: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/y"), "precondition_failed", "/y: Permission denied"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "x" * 999),
            "spec_invalid",
            "... (999 characters): File name",
        ),
        (ZeroDivisionError("division by zero"), "internal", "ZeroDivisionError: division by zero"),
        (BY_CODE["run_not_found"]("gone"), "run_not_found", "gone"),
    ],
)
def test_every_error_is_one_of_ours(status, error, code, words):
    def fail(request: Request, world: World) -> Result:
        raise error

    status(fail)
    with pytest.raises(HpcError) as caught:
        invoke("status", {}, World())
    assert caught.value.error_code == code
    assert words in caught.value.message
    assert caught.value is error or caught.value.__cause__ is error


def test_control_c_is_no_error_of_the_verb(status):
    def interrupted(request: Request, world: World) -> Result:
        raise KeyboardInterrupt

    status(interrupted)
    with pytest.raises(KeyboardInterrupt):
        invoke("status", {}, World())
    assert as_hpc_error(KeyboardInterrupt()).error_code == "interrupted"


def test_the_catalogue_has_every_verb():
    assert catalogue().keys() == load_all().keys()
