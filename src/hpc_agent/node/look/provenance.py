"""Return what a run left on the cluster about itself, and the results of its tasks. Reads only; asks no scheduler."""

import glob
import os
from collections import Counter
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..shared.files import read_json
from ..shared.run_folder import RunFolder, existing_run, shard_of
from ..shared.snapshot_tree import entries_of, is_as_frozen
from ..shared.task_record import COMPLETE
from ..shared.task_records import Records

TEXT_LIMIT = 1 << 20
GROUPS_AT_MOST = 200
HOSTS_SHOWN = 20
FILES_AT_MOST = 20
VALUES_AT_MOST = 200000  # of one answer: at 20 bytes each some 4 MB


def provenance(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``run``, ``environment`` (None: not recorded), ``arrays``, ``tasks`` and ``waves``.

    With ``files`` the answer has the text of the frozen tasks.py, and of tasks.jsonl where the run has one: up to 1 MiB.
    """
    folder = existing_run(request["root"], request["run_id"])
    run = read_json(folder.document)
    reader = _reader(folder, run)
    answer = {
        "run": run,
        "environment": _document(folder.environment),
        "arrays": [array.to_json() for array in reader.arrays],
        "tasks": _tasks(reader, int(run["task_count"])),
        "waves": _combined(folder),
    }
    if request.get("files"):
        texts = {"tasks.py": os.path.join(folder.work, ".hpc", "tasks.py"), "tasks.jsonl": folder.given_tasks}
        answer["files"] = {name: _text(path) for name, path in texts.items() if os.path.isfile(path)}
    return answer


def rows(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``run``, ``environment``, and ``rows``: task -> [state, metrics]; with ``parameters`` also the parameters.

    The first answer has ``as_frozen``: False where the files of the snapshot were changed, None where that is not known.

    ``next`` is None, or the shard from which on the rest is to be asked for (``first``): an answer ends with the shard in
    which it has VALUES_AT_MOST values.
    """
    folder = existing_run(request["root"], request["run_id"])
    answer = {"run": read_json(folder.document), "environment": _document(folder.environment), "next": None}
    if not request.get("first"):
        answer["as_frozen"] = is_as_frozen(request["root"], answer["run"])
    found, values, reader = {}, 0, _reader(folder, answer["run"])
    for shard, tasks in _shards(int(answer["run"]["task_count"])):
        if shard < request.get("first", ""):
            continue
        if values >= VALUES_AT_MOST:
            answer["next"] = shard
            break
        for record in filter(None, map(reader.read, tasks)):
            metrics = record.metrics if record.state == COMPLETE else None
            found[str(record.task)] = [record.state, metrics] + ([record.kwargs] if request.get("parameters") else [])
            values += sum(len(value) if isinstance(value, list) else 1 for value in (metrics or {}).values())
    return dict(answer, rows=found)


def changed_files(request: Dict[str, Any]) -> Dict[str, Any]:
    """Return ``files``: [path, before, now] of the files in which the snapshots of the runs ``of`` and ``run_id`` differ.

    Before and now are 12 digits of a SHA-256, the target of a symbolic link, or None where there is no such file; ``files``
    is None where one of the snapshots is gone.
    """
    before, now = (_files(request["root"], request[name]) for name in ("of", "run_id"))
    if before is None or now is None:
        return {"files": None}
    paths = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    return {"files": [[path] + [_told(files.get(path)) for files in (before, now)] for path in paths[:FILES_AT_MOST]]}


def _told(entry: Optional[List[Any]]) -> Optional[str]:
    if entry is None:
        return None
    if entry[0] == "l":
        return "link to %s" % entry[2]
    return "%s%s" % (entry[2][:12], ", executable" if entry[3] else "")


def _files(root: str, run_id: str) -> Optional[Dict[str, List[Any]]]:
    snapshot = os.path.join(root, "snapshots", read_json(existing_run(root, run_id).document)["snapshot"] or "")
    with suppress(OSError):
        return {entry[1]: entry for entry in entries_of(snapshot)}
    return None


def _reader(folder: RunFolder, run: Dict[str, Any]) -> Records:
    return Records(folder, layout=int(run.get("layout") or 1))


def _shards(total: int) -> Iterator[Tuple[str, Sequence[int]]]:
    """Yield the name and the tasks of each shard of 1,000 tasks."""
    for first in range(0, total, 1000):
        yield shard_of(first), range(first, min(total, first + 1000))


def _tasks(reader: Records, total: int) -> Dict[str, Any]:
    """Return counts and times of the tasks, and their failed attempts, grouped by cause and generation."""
    states = {"complete": 0, "failed": 0}
    times: List[float] = []
    hosts: "Counter[str]" = Counter()
    groups: Dict[str, Dict[str, Any]] = {}
    seconds = 0.0
    for record in filter(None, map(reader.read, range(total))):
        states[record.state] = states.get(record.state, 0) + 1
        times += [at for at in (record.started_at, record.ended_at) if at]
        hosts[record.host] += 1
        seconds += record.seconds or 0.0
        last = {name: getattr(record, name) for name in ("cause", "generation", "ended_at", "message")}
        for attempt in record.history + ([last] if record.state != COMPLETE else []):
            _add_failure(groups, record.task, attempt)
            times += [attempt["ended_at"] - (attempt.get("seconds") or 0.0)] if attempt.get("ended_at") else []
    return {
        "total": total,
        "states": states,
        "seconds": round(seconds, 3),
        "first": min(times) if times else None,
        "last": max(times) if times else None,
        "hosts": dict(hosts.most_common(HOSTS_SHOWN)),
        "host_count": len(hosts),
        "failures": sorted(groups.values(), key=lambda group: group["first"] or 0.0)[:GROUPS_AT_MOST],
    }


def _add_failure(groups: Dict[str, Dict[str, Any]], task: int, attempt: Dict[str, Any]) -> None:
    at, cause = attempt.get("ended_at"), attempt.get("cause") or "failed"
    key = "%s %s" % (cause, attempt.get("generation"))
    new = {"cause": cause, "generation": attempt.get("generation"), "count": 0, "first": at, "last": at, "task": task}
    group = groups.setdefault(key, dict(new, message=str(attempt.get("message") or "")[:200]))
    group["count"] += 1
    if at:
        if not group["first"] or at < group["first"]:
            group.update(first=at, task=task)
        group["last"] = max(at, group["last"] or at)


def _combined(folder: RunFolder) -> Dict[str, float]:
    """Return when each wave was last combined."""
    paths = glob.glob(os.path.join(glob.escape(folder.combiner), "wave_*.json"))
    return {os.path.basename(path)[5:-5]: os.stat(path).st_mtime for path in paths}


def _document(path: str) -> Any:
    """Return a JSON document; None where it is missing or torn."""
    with suppress(OSError, ValueError):
        return read_json(path)
    return None


def _text(path: str) -> Any:
    """Return the text of a file; None for one that is larger than 1 MiB or unreadable."""
    with suppress(OSError, ValueError), open(path, encoding="utf-8") as handle:
        return handle.read() if os.stat(path).st_size <= TEXT_LIMIT else None
    return None
