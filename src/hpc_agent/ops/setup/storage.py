"""Checks of the scratch folder: it is there, takes files, has room, and no quota is used up; and files travel both ways."""

from __future__ import annotations

import contextlib
import re
import secrets
import tempfile
from pathlib import Path

import msgspec

from hpc_agent.errors import HpcError
from hpc_agent.infra.probe import Facts
from hpc_agent.infra.remote import Node, make_transport
from hpc_agent.ops.setup.report import Check, Place, ok, red, unknown, warn
from hpc_agent.world import World

KIB, GIB = 1 << 10, 1 << 30
# The runtime, a snapshot of a small repo and the records of a run need some tens of MB.
ROOM_RED, ROOM_WARN = 100 << 20, 5 << 30
FILES_RED, FILES_WARN = 2_000, 50_000
_FULL = re.compile(r"No space left|Disk quota exceeded")
_TRANSFER_SEC = 60.0


def scratch(facts: Facts, place: Place) -> list[Check]:
    """Return the checks of the folder, its room, and the quota."""
    path, state = place.cluster.scratch_path(place.home), facts.get("scratch")
    room = [_room(facts, path), _quota(facts)]
    remedy = f"Set another 'scratch' under '{place.cluster.name}:' in {place.file}; folders that the site may have made for you:"
    shown = place.there("echo $SCRATCH; ls -d /scratch*/$USER /work*/$USER")
    if state == "file":
        return [red("scratch", f"{path} is a file", remedy, shown), *room]
    if state == "missing" and facts.get("scratch.makeable") and not place.target:
        return [ok("scratch", f"{path} is made by the first submit"), *room]
    if state == "missing" and facts.get("scratch.makeable"):
        detail = f"{path} does not exist; {facts.get('scratch.near')} does, and takes folders of yours"
        return [red("scratch", detail, "Make it, if the name is right:", place.there(f"mkdir -p {path}")), *room]
    if state == "missing":
        detail = f"{path} does not exist, and {facts.get('scratch.near')} takes no folder of yours"
        return [red("scratch", detail, remedy, shown), *room]
    written = facts.get("scratch.write")
    if written == "ok":
        return [ok("scratch", f"{path} takes files"), *room]
    if _FULL.search(written):
        detail = f"{path} is full: {_FULL.search(written).group(0)}"  # type: ignore[union-attr]
        remedy = f"Remove what you no longer need there, or set another 'scratch' under '{place.cluster.name}:' in {place.file}; "
        remedy += "this shows what takes the room:"
        return [red("scratch", detail, remedy, place.there(f"df -h {path}; du -sh {path}/* | sort -h | tail")), *room]
    why = "you may not write there" if "Permission denied" in written else written.rpartition("dd: ")[2][:200]
    detail = f"{path} takes no file: {why} ({' '.join(facts.get('scratch.owner').split()[:4])}, and you are {facts.get('user')})"
    return [red("scratch", detail, remedy, shown), *room]


def _room(facts: Facts, path: str) -> Check:
    room, files = facts.get("scratch.room").split(), facts.get("scratch.files").split()
    if len(room) < 4 or not room[3].lstrip("-").isdigit():
        return unknown("room", f"'df' told nothing about {path}")
    free = max(0, int(room[3])) * KIB
    detail = f"{size(free)} of {size(int(room[1]) * KIB)} free"
    counted = len(files) > 3 and files[1].isdigit() and int(files[1]) and files[3].lstrip("-").isdigit()
    left = int(files[3]) if counted else FILES_WARN
    detail += f", {left:,} files more" if counted else "; the file system does not count files"
    if free < ROOM_RED or left < FILES_RED:
        return red(
            "room",
            detail,
            "Remove what you no longer need, or set another 'scratch'; this shows what is large:",
            f"du -sh {path}/* | sort -h | tail",
        )
    if free < ROOM_WARN or left < FILES_WARN:
        return warn("room", detail, "A large run may not fit.")
    return ok("room", detail)


def size(amount: int) -> str:
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / (1 << 20):.0f} MiB"


def _quota(facts: Facts) -> Check:
    """Return what a quota tool told. Tools of Linux and Lustre put a star behind a number that is over its limit."""
    for tool in ("lfs", "gpfs", "beegfs", "quota"):
        told = facts.get(f"quota.{tool}")
        if not re.search(r"\d", told):
            continue
        if re.search(r"\d\*", told):
            return warn(
                "quota",
                f"over a quota (the number with a star): {told[:300]}",
                "Remove files before the grace time ends.",
            )
        return ok("quota", told[:300])
    return unknown("quota", "no quota tool told anything (quota, lfs, mmlsquota, beegfs-ctl)")


def transfer(node: Node, place: Place, world: World) -> Check:
    """Copy a file to the scratch folder and back, as a submit and an aggregate do; nothing of it stays."""
    name = f"probe-{secrets.token_hex(6)}"
    there = f"{node.scratch}/hpc-agent/.{name}"
    content = secrets.token_bytes(4096)
    # Without shell_init: rsync does not see it, and what is wrong with it is another check.
    transport = make_transport(msgspec.structs.replace(place.cluster, shell_init=None), world.env, world.home)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / name).write_bytes(content)
        try:
            transport.run(["mkdir", "-p", there], b"", _TRANSFER_SEC)
            transport.push(here, [name], there, None, _TRANSFER_SEC)
            (here / "back").mkdir()
            transport.pull(there, [name], here / "back", _TRANSFER_SEC)
            same = (here / "back" / name).read_bytes() == content
        except HpcError as error:
            return red(
                "rsync", error.message, error.remediation, place.there("rsync --version") if place.target else ""
            )
        finally:
            with contextlib.suppress(HpcError):
                transport.run(["rm", "-rf", there], b"", _TRANSFER_SEC)
    if not same:
        return red(
            "rsync",
            "a file came back with other bytes",
            "See what is between: a proxy, or a start-up file that prints:",
            place.there("rsync --version"),
        )
    return ok(
        "rsync",
        "a file went there and came back the same"
        if place.target
        else "files are copied on this machine, without rsync",
    )
