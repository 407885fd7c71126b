"""Make the folder of a run as its tasks leave it, in seconds, for measurements of what reads it.

``made_run(folder, 100_000, pack=500, failed=range(0, 100_000, 100))`` writes a run of packed elements with logs; ``pack=1``,
or ``layout=1``, one with a file a task. ``more_records`` appends to it what the next tasks would.
"""

import json
import math
import os
from collections.abc import Collection
from pathlib import Path

from hpc_agent.node.shared.element_log import ElementLog
from hpc_agent.node.shared.files import make_folder, write_json
from hpc_agent.node.shared.ledger import SUBMITTED, Array, arrays_of
from hpc_agent.node.shared.ranges import encode_ranges, position_of
from hpc_agent.node.shared.run_folder import RunFolder, read_run
from hpc_agent.node.shared.task_environment import digest
from hpc_agent.node.shared.task_record import COMPLETE, FAILED, TaskRecord
from hpc_agent.node.shared.task_records import Records, fields_of, frame_of

AT = 1_700_000_000.0
POINTS = 100  # of the grid; other tasks are replicates (seed)
LINE = 'Traceback (most recent call last):\n  File "train.py", line {}, in main\nValueError: bad value\n'


def made_run(
    folder: str | Path,
    tasks: int,
    pack: int = 500,
    failed: Collection[int] = (),
    metrics: int = 10,
    layout: int = 2,
    ended: Collection[int] | None = None,
    cause: str = "code_error",
) -> RunFolder:
    """Return the folder of a run of which the tasks ``ended`` (None: all) have records, those in ``failed`` failed ones."""
    run = RunFolder(str(folder))
    for needed in (run.jobs, run.scheduler_logs, run.work):
        make_folder(needed)
    document = {
        "run_id": Path(run.path).name, "task_count": tasks, "scheduler": "local", "layout": layout, "executor": "train",
        "result_dir_template": "results/{task_id}", "resources": {"mem_mb": 1024, "walltime_sec": 3600}, "cmd_sha": "0",
    }  # fmt: skip
    write_json(run.document, document)
    Path(run.digests).write_bytes(b"".join(digest(parameters(task)) for task in range(tasks)))
    array = Array(
        "a0", encode_ranges(range(tasks)), name=f"{document['run_id']}.a0", elements=-(-tasks // pack), pack=pack, job_id="1",
        state=SUBMITTED, submitted_at=AT, at=AT, resources={"mem_mb": 1024, "walltime_sec": 3600},
    )  # fmt: skip
    write_json(run.job("a0"), array.to_json())
    more_records(run, range(tasks) if ended is None else ended, failed, metrics, cause)
    return run


def parameters(task: int) -> dict[str, float]:
    return {"x": task % POINTS, "seed": task // POINTS}


def record_of(array: Array, task: int, is_failed: bool, metrics: int, cause: str) -> TaskRecord:
    """Return the record of a task, with metrics whose values differ from task to task."""
    values = {f"metric_{n}": math.sin(task * 1.7 + n) for n in range(metrics)}
    position = position_of(array.tasks, task) or 0
    record = TaskRecord(
        task, FAILED if is_failed else COMPLETE, array.generation, array.job_id or "", position // array.pack, array.array,
        host=f"node{position // array.pack % 16}", kwargs=parameters(task), exit_code=1 if is_failed else 0,
        started_at=AT + task % 1000, ended_at=AT + task % 1000 + 1, seconds=1.0, cpu_seconds=0.5, max_rss_mb=64.0,
    )  # fmt: skip
    if is_failed:
        return record._replace(cause=cause, message="exit code 1", log_tail=LINE.format(7))
    return record._replace(metrics=values, result_dir=f"results/{task}")


def more_records(
    run: RunFolder,
    tasks: Collection[int],
    failed: Collection[int] = (),
    metrics: int = 10,
    cause: str = "code_error",
    name: str = "a0",
) -> None:
    """Write the records and logs of further tasks of an array."""
    array = next(array for array in arrays_of(run) if array.array == name)
    reader, bad, ordered = Records(run, [array], read_run(run).layout), set(failed), sorted(tasks)
    if not reader.is_packed(array):
        for task in ordered:
            _write_file(run, array, record_of(array, task, task in bad, metrics, cause))
        return
    by_element: dict[int, list[int]] = {}
    for task in ordered:
        by_element.setdefault(reader.element_of(array, task) or 0, []).append(task)
    for element, members in by_element.items():
        _write_log(run, array, element, [record_of(array, task, task in bad, metrics, cause) for task in members])


def _write_file(run: RunFolder, array: Array, record: TaskRecord) -> None:
    document = record._replace(log=os.path.relpath(run.log(record.task, array.generation), run.path)).to_json()
    for path, text in (
        (Path(run.claim(record.task, array.generation)), f"1:{array.array}:{record.element}\nnode 1\n"),
        (Path(run.log(record.task, array.generation)), record.log_tail or "ended well\n"),
        (Path(run.record(record.task)), json.dumps(document, sort_keys=True, separators=(",", ":"))),
    ):
        try:
            path.write_text(text)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def _write_log(run: RunFolder, array: Array, element: int, records: list[TaskRecord]) -> None:
    claim = Path(run.element(array.array, element, "claim"))
    make_folder(str(claim.parent))
    is_new = not claim.exists()
    claim.write_text(f"1:{array.array}:{element}\nnode 1\n")
    log = ElementLog(run.element(array.array, element, "rec"))
    if is_new:
        log.start(array.job_id or "", records[0].host)
    with Path(run.element(array.array, element, "log")).open("a") as output:
        offset = output.tell()
        for record in records:
            text = record.log_tail or "ended well\n"
            output.write(text)
            placed = record._replace(log_offset=offset, log_length=len(text))
            log.begin(record.task, 0, offset)
            log.record(frame_of(placed, "", 0, fields_of(placed)))
            offset += len(text)
    log.close()
