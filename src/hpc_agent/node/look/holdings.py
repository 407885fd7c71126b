"""What the runs of a repo hold on the cluster, part by part, and whether the scheduler still has jobs of them."""

import json
import os
import re
import stat
import time
from contextlib import suppress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..schedulers import load
from ..shared import run_folder
from ..shared.errors import NodeError
from ..shared.files import read_object
from ..shared.ledger import INTENT, SUBMITTED, Array, arrays_of
from ..shared.ranges import count
from ..shared.run_folder import IDENTIFIER, RunFolder
from .known_runs import SharedQueue

# The parts of a run that may go by themselves; whatever else it has are records, which go with the whole run only.
PARTS = ("logs", "work", "checkpoints", "results", "outputs")
RECORDS, WHOLE = "records", "all"
# In the folder of a packed element its log is the only file that is no record.
ELEMENT_LOG = re.compile(r"^[0-9]+(\.[0-9]+)?\.log\Z")
MEASURE_SEC = 60.0
LOOK_AT_CLOCK = 200  # files


def holdings(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the runs below ``root`` hold. Request: ``runs`` (names; null: all of them), ``site``, ``measure_sec``.

    ``runs``: name -> facts; ``sizes`` is null for a run that the time did not suffice to measure. ``gone``: runs that were
    removed -> when. ``unfinished``: folders of removed runs that are not deleted yet.
    """
    root = run_folder.check_root(request["root"])
    names = sorted(runs_below(root))
    wanted = names if request.get("runs") is None else [name for name in names if name in set(request["runs"])]
    folders = {name: run_folder.run_folder(root, name) for name in wanted}
    deadline = time.monotonic() + float(request.get("measure_sec") or MEASURE_SEC)
    repeats = _repeats(root, names)
    found = {}
    activities = activity(folders, request.get("site") or {})
    for name in sorted(folders, key=lambda name: _change(folders[name])):  # the oldest first: they are asked for most
        found[name] = dict(_facts(folders[name]), repeated_by=repeats.get(name, []), **activities[name]._asdict())
        found[name]["sizes"] = _sizes(folders[name], deadline)
    return {"runs": found, "gone": removed_runs(root), "unfinished": len(aside(root))}


def runs_below(root: str) -> List[str]:
    """Return the names of the folders of runs; a link to a folder elsewhere is none."""
    try:
        entries = os.listdir(os.path.join(root, "runs"))
    except OSError:
        return []
    paths = ((name, os.path.join(root, "runs", name)) for name in entries if IDENTIFIER.match(name))
    return [name for name, path in paths if os.path.isdir(path) and not os.path.islink(path)]


class Activity(NamedTuple):
    """What may still run: elements in the queue (None: the scheduler could not be asked), arrays without a job."""

    queued: Optional[int]
    not_known: str  # why nobody knows whether jobs are in the queue; empty: it is known
    unsent: int  # arrays that were never submitted


def activity(folders: Dict[str, RunFolder], site: Dict[str, Any]) -> Dict[str, Activity]:
    """Return what may still run of each run: one query of each scheduler for all."""
    ledgers: Dict[str, List[Array]] = {}
    found: Dict[str, Activity] = {}
    for name, folder in folders.items():
        try:
            ledgers[name] = arrays_of(folder)
        except (NodeError, OSError) as error:
            found[name] = Activity(None, str(getattr(error, "message", error)), 0)
    jobs = [str(array.job_id) for arrays in ledgers.values() for array in arrays if array.job_id]
    queues: Dict[str, SharedQueue] = {}
    for name, arrays in ledgers.items():
        scheduler = str(read_object(folders[name].document).get("scheduler") or "")
        try:
            if scheduler not in queues and any(array.job_id for array in arrays):
                queues[scheduler] = SharedQueue(load(scheduler, site), jobs)
            found[name] = _activity(arrays, queues.get(scheduler))
        except NodeError as error:
            found[name] = Activity(None, error.message, 0)
    return found


def _activity(arrays: List[Array], queue: Optional[SharedQueue]) -> Activity:
    names = {str(array.job_id): array.name for array in arrays if array.job_id}
    rows = queue.queue(sorted(names)) if names and queue else []
    queued = sum(count(row.elements) for row in rows if (row.name or names[row.job]) == names[row.job])
    intents = [array.array for array in arrays if array.state == INTENT]
    why = "array %s may have a job that nobody has looked up yet" % intents[0] if intents else ""
    return Activity(queued, why, sum(array.state not in (SUBMITTED, INTENT) for array in arrays))


def _facts(folder: RunFolder) -> Dict[str, Any]:
    """Return what the run's documents say: its size, campaign, waves that are combined, parts that were removed."""
    run = read_object(folder.document)
    waves = []  # type: List[str]
    with suppress(OSError):
        waves = [name for name in os.listdir(folder.combiner) if re.match(r"^wave_[0-9]+\.json\Z", name)]
    facts = {name: run.get(name) for name in ("submitted_at", "campaign_id", "reproduces", "task_count")}
    return dict(facts, waves=len(run.get("wave_map") or {}), combined=len(waves), last_change=_change(folder),
                layout=run.get("layout") or 1, pruned=read_object(folder.pruned), whole=bool(run))  # fmt: skip


def _change(folder: RunFolder) -> float:
    """Return when something in the run's folder last changed, as the times of its folders tell (epoch seconds)."""
    newest = _changed(folder.path)
    for top in (folder.jobs, folder.logs, folder.results, folder.combiner, *_below(folder.path, "tasks", "elements")):
        newest = max(newest, _changed(top), *map(_changed, _below(top)))
    return newest


def _below(path: str, *names: str) -> List[str]:
    """Return the named folders in a folder; without names all of them."""
    with suppress(OSError):
        return [os.path.join(path, name) for name in names or os.listdir(path)]
    return []


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _repeats(root: str, names: List[str]) -> Dict[str, List[str]]:
    """Return the runs that repeat each run."""
    found: Dict[str, List[str]] = {}
    for name in names:
        source = read_object(run_folder.run_folder(root, name).document).get("reproduces")
        if source:
            found.setdefault(str(source), []).append(name)
    return found


def part_of(steps: Tuple[str, ...]) -> str:
    """Return the part to which a path in the run's folder belongs."""
    if len(steps) == 4 and steps[0] == "elements" and ELEMENT_LOG.match(steps[3]):  # deeper ones are of tasks
        return "logs"
    if steps[:2] == ("work", ".hpc"):  # the run's own runtime, which answers questions about its records
        return RECORDS
    return steps[0] if steps[0] in PARTS else RECORDS


def element_logs(folder: RunFolder) -> List[str]:
    """Return the output logs of packed elements, in elements/<array>/<shard>; links are not followed."""
    places = [os.path.join(folder.path, "elements")]
    for _ in ("arrays", "shards", "files"):
        places = [path for place in places if not os.path.islink(place) for path in _below(place)]
    return [path for path in places if ELEMENT_LOG.match(os.path.basename(path))]


def _sizes(folder: RunFolder, deadline: float) -> Optional[Dict[str, List[int]]]:
    """Return part -> [bytes that go with it, files and folders, bytes that snapshots share, files]; None: out of time."""
    sizes: Dict[str, List[int]] = {}
    for number, (steps, found) in enumerate(_tree(folder.path)):
        if number % LOOK_AT_CLOCK == 0 and time.monotonic() > deadline:
            return None
        size = sizes.setdefault(part_of(steps), [0, 0, 0, 0])
        shared = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)  # a hard link into a snapshot
        size[2 if shared else 0] += found.st_blocks * 512
        size[1] += 1
        size[3] += not stat.S_ISDIR(found.st_mode)
    return sizes


def _tree(top: str) -> Iterator[Tuple[Tuple[str, ...], os.stat_result]]:
    """Yield each path below a folder with its facts; symbolic links are not followed."""
    folders = [()]  # type: List[Tuple[str, ...]]
    while folders:
        steps = folders.pop()
        with suppress(OSError):
            for entry in os.scandir(os.path.join(top, *steps)):
                with suppress(OSError):
                    yield steps + (entry.name,), entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(steps + (entry.name,))


def aside_folder(root: str) -> str:
    """Return the folder into which what is removed is moved first."""
    return os.path.join(root, "pruned")


def removal_log(root: str) -> str:
    return os.path.join(aside_folder(root), "log.jsonl")


def aside(root: str) -> List[str]:
    """Return the folders that were moved aside and are not deleted yet."""
    return [path for path in _below(aside_folder(root)) if path != removal_log(root)]


def removed_runs(root: str) -> Dict[str, float]:
    """Return the runs that were removed as a whole and are not there again -> when."""
    found: Dict[str, float] = {}
    with suppress(OSError), open(removal_log(root), "rb") as handle:
        for line in handle:
            with suppress(ValueError, KeyError, TypeError):  # a torn line: that run is still there
                row = json.loads(line.decode("utf-8"))
                if WHOLE in row["parts"] and not os.path.isdir(os.path.join(root, "runs", row["run_id"])):
                    found[row["run_id"]] = float(row["at"])
    return found
