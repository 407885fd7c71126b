"""Grid Engine's accounting, as qacct prints it: 45 lines for each attempt of each element.

Meanings of the "failed" codes are those of the sge_status manual page. Checked against Son of Grid Engine 8.1.9; the
time format of Univa's qacct is accepted too.
"""

import re
from typing import Dict, Iterator, List, Optional, Tuple

from .. import base
from ..base import AccountingRow

_BLOCK_FIELD = re.compile(
    r"^(={20,}|(?:jobname|jobnumber|taskid|hostname|qsub_time|failed|exit_status|ru_wallclock|ru_maxrss|maxvmem"
    r"|slots|category|deleted_by)(?=[ \t]))[ \t]*(.*)$",
    re.MULTILINE,
)
_SIZE = re.compile(r"^([0-9.]+)([KMGT]?)B?$", re.IGNORECASE)
_FAR_ABOVE = 100.0
_UNITS = {"": 1.0, "K": 1024.0, "M": 1024.0**2, "G": 1024.0**3, "T": 1024.0**4}

# qacct's "failed" codes: the job goes back to the queue; it ran, and the clean-up failed; the site's prolog (or the start
# procedure of the parallel environment) failed, the shepherd or node died; a limit; a signal. The rest failed to start
# the job (sge_status manual page).
_REQUEUED = (24, 25)
_AFTERWARDS = (12, 13, 14, 15, 16)
_NODE_FAILED = (7, 8, 9, 10, 18, 19)
_LIMITS = (37, 44)
_SIGNALLED = (17, 100)


def blocks(text: str) -> Iterator[Dict[str, str]]:
    """Yield the records in qacct's output; one that was cut off lacks fields."""
    block: Dict[str, str] = {}
    for key, value in _BLOCK_FIELD.findall(text):
        if key.startswith("="):
            if block.get("jobnumber", "").isdigit():
                yield block
            block = {}
        else:
            block[key] = value.strip()
    if block.get("jobnumber", "").isdigit():
        yield block


def parse(text: str, job: str, since: float) -> List[AccountingRow]:
    """Return the rows of ``qacct -j``: the newest record of an element, unless the element went back to the queue.

    Records of jobs submitted before ``since`` (epoch seconds) are left out, for job ids are used again; damaged ones too.
    """
    newest: Dict[int, AccountingRow] = {}
    for block in blocks(text):
        if block["jobnumber"] != job or base.epoch(block.get("qsub_time", ""), since) < since - base.CLOCK_SKEW:
            continue
        try:
            task = block["taskid"]
            element = 0 if task == "undefined" else base.parse_indices(task, first=1)[0]
            failed, status = int(block["failed"].split()[0]), int(block["exit_status"].split()[0])
        except (KeyError, ValueError, IndexError):
            continue
        newest.pop(element, None)
        if failed not in _REQUEUED:
            newest[element] = _accounting_row(job, element, block, failed, status)
    return list(newest.values())


def _accounting_row(job: str, element: int, block: Dict[str, str], failed: int, status: int) -> AccountingRow:
    cause, signal = _cause(block, failed, status)
    # ru_maxrss counts KB, whatever suffix qacct puts after it (8.1.9 prints 258 MB as "257.930KB"); of a killed job it
    # lacks the children, so there the virtual size stands in.
    resident, virtual = size(block.get("ru_maxrss", "")) / 1024.0, size(block.get("maxvmem", "")) / _UNITS["M"]
    while virtual and resident > _FAR_ABOVE * virtual:  # other versions count bytes, or mean the suffix
        resident /= 1024.0
    memory = virtual if signal or not resident else resident
    raw = "failed %s, exit_status %s" % (" ".join(block["failed"].split()), " ".join(block["exit_status"].split()))
    exit_code = None if cause and not status else status
    host = block.get("hostname", "")
    return AccountingRow(job, element, cause, raw, exit_code, signal, host, _wall(block), round(memory, 3) or None)


def _cause(block: Dict[str, str], failed: int, status: int) -> Tuple[Optional[str], Optional[int]]:
    """Return the cause of the end, and the signal. qdel and a kill from inside look the same: both are "cancelled"."""
    signal = status - 128 if status > 128 else None
    if failed == 0:
        return ("exit" if status else None), None
    if failed in _LIMITS or " enforced " in block.get("failed", ""):
        return _limit(block), signal
    if failed in _SIGNALLED:
        return ("cancelled" if signal in (None, 9) and _may_be_deleted(block) else "signal"), signal
    if failed in _AFTERWARDS and status:
        return "exit", None
    return ("node_failure" if failed in _NODE_FAILED else "environment"), None


def _limit(block: Dict[str, str]) -> str:
    """Return the cause behind "execd enforced h_rt limit", or "qmaster enforced h_rt, h_cpu, or h_vmem limit".

    Where the words leave both open: time, when h_rt was used up or nothing is known; memory, when there was time left
    and no limit on CPU time.
    """
    kinds = {kind in ("rt", "cpu") for kind in re.findall(r"\b[hs]_(rt|cpu|vmem|data|rss)\b", block.get("failed", ""))}
    if len(kinds) == 1:
        return "timeout" if kinds.pop() else "out_of_memory"
    requests = _requests(block)
    if "h_rt" in requests and "h_cpu" not in requests:
        return "timeout" if _time_is_over(block) else "out_of_memory"
    return "out_of_memory" if _memory_is_full(block) else "timeout"


def _may_be_deleted(block: Dict[str, str]) -> bool:
    """Tell whether qdel may have killed the job: its user is named, or no request was used up in the same record."""
    if "deleted_by" in block:  # of Univa and Altair
        return block["deleted_by"].upper() not in ("", "NONE")
    return not _time_is_over(block) and not _memory_is_full(block)


def _requests(block: Dict[str, str]) -> Dict[str, str]:
    """Return the limits that the job asked for; the category holds them."""
    return dict(re.findall(r"\b(h_rt|s_rt|h_cpu|h_vmem|h_data)=([^, ]+)", block.get("category", "")))


def _time_is_over(block: Dict[str, str]) -> bool:
    limits = [_seconds(limit) for key, limit in _requests(block).items() if key.endswith("_rt")]
    return any(0 < limit <= _wall(block) for limit in limits)


def _memory_is_full(block: Dict[str, str]) -> bool:
    requests = _requests(block)
    memory = size(requests.get("h_vmem") or requests.get("h_data") or "")  # both are for a slot
    return bool(memory) and size(block.get("maxvmem", "")) >= max(1.0, size(block.get("slots", ""))) * memory


def _seconds(text: str) -> float:
    """Return seconds of ``3600`` or ``1:00:00``; 0 for anything else."""
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + size(part)
    return seconds


def _wall(block: Dict[str, str]) -> float:
    return size(block.get("ru_wallclock", "").rstrip("s"))


def size(text: str) -> float:
    """Return a number with a binary suffix (``4.5KB``, ``400M``, ``11``); 0 for anything else."""
    match = _SIZE.match(text)
    return float(match.group(1)) * _UNITS[match.group(2).upper()] if match else 0.0
