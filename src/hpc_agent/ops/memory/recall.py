"""``recall``: past interviews below the experiment roots, what they have in common, and where a new campaign may start."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from hpc_agent.campaign.tagged import seconds_of
from hpc_agent.contract.primitive import PartialError, Request, Result, primitive
from hpc_agent.contract.vocabulary import Direction
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.memory.grounding import grounding
from hpc_agent.ops.memory.index import cache_folder, find_interviews
from hpc_agent.ops.memory.interviews import Facts, Interview
from hpc_agent.ops.memory.rollup import UNSTATED, generator_rollup, rollup, runtime_rollup
from hpc_agent.ops.memory.run_starts import Start, Wanted
from hpc_agent.ops.run.fields import doc
from hpc_agent.state.repo_files import HPC_DIR, local_path
from hpc_agent.world import World

CONFIG = ".hpc-agent/config.json"
NAMED_PROBLEMS = 20
NAMES = 5
UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d{1,6})([hdw])")


class _Config(msgspec.Struct):
    experiment_roots: list[str] = []


class RecallRequest(Request):
    """Where to look, and which interviews are meant; every filter must fit."""

    root: Annotated[list[str], doc("folders to look in; default: experiment_roots in ~/.hpc-agent/config.json")] = []
    words: Annotated[
        str,
        doc(
            "words that all occur in goal, notes, kind, operator, names of parameters, transcript, or the names of the "
            "folder and its campaigns"
        ),
    ] = ""
    task_kind: Annotated[str | None, doc("the kind of work, as interview had it")] = None
    operator: Annotated[str | None, doc("the person, as interview had it")] = None
    cluster: Annotated[str | None, doc("the cluster that the interview named")] = None
    since: Annotated[str | None, doc("a date, an ISO time (UTC where it has no zone), or 12h, 30d, 8w ago")] = None
    limit: Annotated[int, doc("interviews to show, newest first; the rollup is over all that fit", ge=0)] = 20
    include_runtime: Annotated[bool, doc("time of tasks and rate of failures, as measured")] = False
    include_generator_stats: Annotated[bool, doc("observed values of parameters, by kind of generator")] = False
    metric: Annotated[str | None, doc("metric of the starts; default: the campaign's, or one whose name says it")] = (
        None
    )
    direction: Annotated[
        Direction, doc("where its best value is; auto: as the campaign says, or its name; a direction goes before both")
    ] = "auto"


class RecallResult(Result, omit_defaults=True, kw_only=True):
    starts: Annotated[
        list[Start],
        doc("best points of past campaigns and runs: three of the newest kind and metric, one of two others at most"),
    ]
    next_command: Annotated[str, doc("begins a campaign at the first start; empty: there is none")]
    total_matching: int
    showing: int
    campaigns: Annotated[list[Interview], doc("newest first; interview.json in campaign_dir has all of each")]
    rollup: Annotated[
        dict[str, Any], doc("over all that fit: counts, histograms, quantiles; runtime_rollup, generator_rollup")
    ]
    unreadable: Annotated[int, doc("files and folders that could not be read; partial_errors names them")] = 0
    notes: list[str] = []


@primitive(
    stage="memory",
    errors=[SpecInvalid],
    positional="words",
    brief="past campaigns",
    example={"root": ["."], "words": "horizon"},
    next_verbs=["interview", "campaign-init"],
    larger=["limit"],
)
def recall(request: RecallRequest, world: World) -> RecallResult:
    """Find past campaigns below the experiment roots: by interview.json, else by their manifests and runs.

    The answer has counts, quantiles and observed ranges, and offers the best points of past campaigns and runs as a start.
    An index in the cache folder makes the next call fast. Each interview is looked at in each call, so a changed, new or
    removed one is noticed.
    """
    since = _since(request.since, world.now()) if request.since is not None else None
    found, errors, unreadable = _all_found(request, world)
    fitting = [one for one in found if _fits(one, request, since)]
    fitting.sort(key=lambda one: (-(one.at or 0.0), one.interview.campaign_dir))
    shown = [_with_campaigns(one.interview) for one in fitting[: request.limit]]
    summary = rollup(fitting)
    if request.include_runtime:
        summary["runtime_rollup"] = runtime_rollup([one.interview.campaign_dir for one in fitting], world.journal_root)
    if request.include_generator_stats:
        summary["generator_rollup"] = generator_rollup(fitting)
    starts, command, more = grounding(fitting, Wanted(request.metric, request.direction), world)
    return RecallResult(
        campaigns=shown,
        total_matching=len(fitting),
        showing=len(shown),
        unreadable=unreadable,
        rollup=summary,
        starts=starts,
        notes=[*_notes(found, fitting, request), *_first(more)],
        next_command=command,
        partial_errors=errors,
    )


def _with_campaigns(interview: Interview) -> Interview:
    return replace(interview, campaigns=_first(_campaigns(interview), NAMES))


def _campaigns(interview: Interview) -> list[str]:
    """Return the names of the campaigns in an interview's folder."""
    try:
        with os.scandir(f"{interview.campaign_dir}/{HPC_DIR}/campaigns") as found:  # 10,000 times
            return sorted(entry.name for entry in found if entry.is_dir())
    except OSError:
        return []


def _all_found(request: RecallRequest, world: World) -> tuple[list[Facts], list[PartialError], int]:
    """Return every interview and repo below the roots, and what could not be read: the first, and their number."""
    roots, missing = _roots(request, world)
    cache = cache_folder(world.env, world.home)
    looks = [find_interviews(root, cache) for root in roots]
    problems = [problem for _, several in looks for problem in several]
    errors = [PartialError(code="root_missing", detail=f"there is no folder {root}") for root in missing]
    errors += [PartialError(code="interview_unreadable", detail=problem) for problem in _first(problems)]
    return [facts for found, _ in looks for facts in found], errors, len(missing) + len(problems)


def _roots(request: RecallRequest, world: World) -> tuple[list[Path], list[Path]]:
    """Return the roots, none below another, and those of the configuration that do not exist. Raises SpecInvalid."""
    config = world.home / CONFIG
    field, names = "root", request.root
    if not names:
        field, names = "experiment_roots", _configured(config)
    wanted = [local_path(world.cwd, name, field) for name in names]
    there = [path for path in wanted if path.is_dir()]
    missing = [path for path in wanted if path not in there]
    if missing and (request.root or not there):
        remedy = "Name a folder that exists: 'hpc-agent recall --root .' looks below this one."
        raise SpecInvalid(f"there is no folder {missing[0]}", field=field, remediation=remedy)
    outermost = [path for path in there if not any(path != other and path.is_relative_to(other) for other in there)]
    return list(dict.fromkeys(outermost)), missing


def _configured(config: Path) -> list[str]:
    """Return ``experiment_roots`` of the configuration file. Raises SpecInvalid where it names none."""
    example = '{"experiment_roots": ["/home/me/experiments"]}'
    remedy = f"Run 'hpc-agent recall --root .' for this folder, or write {example} into {config}."
    message = f"nobody said where to look: there is no --root, and no experiment_roots in {config}"
    try:
        if roots := msgspec.json.decode(config.read_bytes(), type=_Config).experiment_roots:
            return roots
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError) as error:
        message = f"{config} cannot be read: {error}"
    raise SpecInvalid(message, field="root", remediation=remedy)


def _since(text: str, now: float) -> float:
    """Return the time from which on interviews count, in seconds since the epoch. Raises SpecInvalid."""
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * UNITS[ago[2]]
    try:
        return seconds_of(text)
    except ValueError as error:
        remedy = "Write a date such as 2026-01-31, an ISO time, or 30d for the last thirty days."
        raise SpecInvalid(f"since: {text!r} is no time", field="since", remediation=remedy) from error


def _fits(one: Facts, request: RecallRequest, since: float | None) -> bool:
    told = one.interview
    return (
        request.task_kind in (None, told.task_kind)
        and request.operator in (None, told.operator)
        and request.cluster in (None, told.cluster_target.get("cluster"))
        and (since is None or (one.at or 0.0) >= since)
        and _has_words(one, request.words.lower().split())
    )


def _has_words(one: Facts, words: list[str]) -> bool:
    """Return True where the text of an interview, with the names of its folder and campaigns, has all words."""
    missing = [word for word in words if word not in one.words]
    if not missing:
        return True  # the folder is not read
    names = "\n".join([Path(one.interview.campaign_dir).name, *_campaigns(one.interview)]).lower()
    return all(word in names for word in missing)


def _notes(found: list[Facts], fitting: list[Facts], request: RecallRequest) -> list[str]:
    """Return notes about what a filter cannot judge, and about the kinds there are where nothing fits."""
    notes = []
    if not found:
        notes.append("no interview.json, campaign or run lies there: 'hpc-agent interview' writes one with tasks")
    if request.since and (timeless := sum(one.at is None for one in found)):
        told = "1 interview has no time" if timeless == 1 else f"{timeless} interviews have no time"
        notes.append(f"{told}, so --since leaves {'it' if timeless == 1 else 'them'} out")
    bare = sum(one.interview.no_interview for one in found)
    given = {"--task-kind": request.task_kind, "--operator": request.operator}
    if bare and (filters := [flag for flag, value in given.items() if value]):
        told = "1 repo has" if bare == 1 else f"{bare} repos have"
        leave = f"{' and '.join(filters)} leave{'' if len(filters) > 1 else 's'} {'it' if bare == 1 else 'them'} out"
        notes.append(f"{told} no interview.json, so {leave}")
    elif bare:
        notes.append(f"{bare} of {len(found)} repos have no interview.json: their kind of task is not known")
    if found and not fitting:
        kinds = rollup(found).get("task_kind_distribution") or {UNSTATED: len(found)}
        notes.append(f"none of {len(found)} interviews fits; their kinds: {', '.join(kinds)}")
    return notes


def _first(several: list[str], most: int = NAMED_PROBLEMS) -> list[str]:
    """Return the first ones, and the number of the others."""
    return [*several[:most], *([f"and {len(several) - most} more"] if len(several) > most else [])]
