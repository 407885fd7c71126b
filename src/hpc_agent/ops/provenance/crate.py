"""``export-crate``: a run as an RO-Crate, a folder or a zip file for publishing.

RO-Crate 1.1 with the profile Process Run Crate 0.5: the run is one CreateAction, from inputs and command to the table.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Annotated, Any

from hpc_agent._version import __version__
from hpc_agent.contract.primitive import Effect, Result, primitive
from hpc_agent.errors import PreconditionFailed, SpecInvalid
from hpc_agent.node.shared.files import make_folder, write_bytes
from hpc_agent.node.shared.timestamps import iso
from hpc_agent.ops.provenance.story import STORY_TIMEOUT_SEC, story_of, story_text
from hpc_agent.ops.run.fields import doc
from hpc_agent.ops.run.known_run import RUN_ERRORS, KnownRun, RunScoped, known_run
from hpc_agent.state.repo_files import local_path
from hpc_agent.world import World

METADATA = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
# The files that a crate may have: what each is, and its media type.
FILES = {
    "table.csv": ("the table: a row for each grid point", "text/csv"),
    "table.json": ("the table with all statistics", "application/json"),
    "table.parquet": ("the table as Parquet", "application/vnd.apache.parquet"),
    "run.json": ("what was submitted: code, resources, plan, inputs", "application/json"),
    "environment.json": (
        "node, modules, interpreter, packages, read on the node of the first task",
        "application/json",
    ),
    "tasks.py": ("the parameters of the tasks, as frozen", "text/x-python"),
    "tasks.jsonl": ("the parameters of each task", "application/jsonl"),
    "story.txt": ("what happened, in the order of time", "text/plain"),
}
TABLES = [name for name in FILES if name.startswith("table.")]
# RO-Crate wants a license or a text about the use.
NO_LICENSE = "No license is named: ask the author before you use this."
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same run gives the same bytes, but for the date of publication
Entity = dict[str, Any]


class ExportCrateRequest(RunScoped):
    """The run, where the crate goes, and what only its author knows."""

    output: Annotated[
        str | None, doc("folder, or file with the ending .zip; results/<run_id>/crate in the repo by default")
    ] = None
    name: Annotated[str | None, doc("title; the run id by default")] = None
    description: Annotated[str | None, doc("what the run is for")] = None
    license: Annotated[
        str | None, doc("license of the results: its address, such as https://spdx.org/licenses/CC-BY-4.0")
    ] = None
    author: Annotated[
        list[str], doc("names, each with an ORCID if there is one: 'Ada Lovelace https://orcid.org/...'")
    ] = []


class ExportCrateResult(Result, omit_defaults=True, kw_only=True):
    run_id: str
    crate: Annotated[str, doc("the folder or zip file")]
    files: list[str]
    bytes: int
    notes: Annotated[list[str], doc("what is missing, and what to look at before publishing")] = []


@primitive(
    stage="provenance",
    effects=[Effect.SSH, Effect.FILES],
    errors=[*RUN_ERRORS, SpecInvalid, PreconditionFailed],
    brief="the run as an RO-Crate",
    example={"run_id": "latest"},
    next_verbs=["report"],
)
def export_crate(request: ExportCrateRequest, world: World) -> ExportCrateResult:
    """Write a run as an RO-Crate: table, run document, environment, tasks.py, story, and metadata that link them.

    The code itself stays in its repo: the crate names its git commit and its hash. The table must have been aggregated.
    """
    run = known_run(world, request)
    run_id, folder = run.record.run_id, run.repo.aggregate(run.record.run_id)
    output = local_path(world.cwd, request.output, "output") if request.output else folder / "crate"
    table = Path(run.record.output) if run.record.output else folder
    if not (table / "table.csv").is_file():
        remedy = f"Run 'hpc-agent aggregate --run-id {run_id}' first."
        raise PreconditionFailed(f"there is no table of {run_id} in {table}", remediation=remedy)
    _check_output(output)
    there = run.ask_this_version("provenance", STORY_TIMEOUT_SEC, files=True)
    files, notes = _files(run, there, table)
    partial, is_old = _partial(table, there["tasks"])
    if partial:
        notes.insert(
            0, f"{partial}: 'hpc-agent aggregate --run-id {run_id}' brings it up to date" if is_old else partial
        )
    graph = _graph(request, run, there, files, partial, world.now())
    files[METADATA] = _json({"@context": f"{CRATE}/context", "@graph": graph})
    _write(output, files)
    if not request.license:
        notes.append("no license is named: with --license and its address others know that they may use the results")
    named = "paths, nodes and variables of the cluster"
    notes.append(f"run.json and environment.json name {named}: look before you publish")
    return ExportCrateResult(
        run_id=run_id,
        crate=str(output),
        files=sorted(files),
        bytes=output.stat().st_size if output.is_file() else sum(map(len, files.values())),
        notes=notes,
    )


def _check_output(output: Path) -> None:
    """Raise PreconditionFailed where the crate would mix with other files."""
    if output.suffix == ".zip":
        foreign = output.is_dir()
    else:
        foreign = output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / METADATA).is_file())
    if foreign:
        message, remedy = f"{output} is there and is no crate", "Name another place with --output, then call again."
        raise PreconditionFailed(message, field="output", remediation=remedy)


def _files(run: KnownRun, there: dict[str, Any], table: Path) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of the crate by name, and notes about those that are missing."""
    texts = there["files"]
    notes = [f"{name} is missing: it has more than 1 MiB, or cannot be read" for name in texts if texts[name] is None]
    files = {name: (table / name).read_bytes() for name in TABLES if (table / name).is_file()}
    files |= {name: text.encode() for name, text in texts.items() if text is not None}
    story = story_text(run, there, story_of(run, there))
    files |= {"run.json": _json(there["run"]), "story.txt": story.encode()}
    if there["environment"] is None:
        notes.append("environment.json is missing: the run did not record it")
    else:
        files["environment.json"] = _json(there["environment"])
    return files, notes


def _partial(table: Path, tasks: dict[str, Any]) -> tuple[str, bool]:
    """Return a sentence about a table that lacks tasks, else ""; and True where more of them are complete by now."""
    total, complete = tasks["total"], tasks["states"].get("complete", 0)
    try:
        included = int(json.loads((table / "table.json").read_bytes())["included_tasks"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"it is not known how many of the {total} tasks the table has, for table.json cannot be read", True
    if included == total:
        return "", False
    told = f"the table has {included} of {total} tasks"
    return told + (f", and {complete} are complete by now" if complete > included else ""), complete > included


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _graph(
    request: ExportCrateRequest, run: KnownRun, there: dict[str, Any], files: dict[str, bytes], partial: str, now: float
) -> list[Entity]:
    """Return the entities of the metadata document; ``partial`` says what the table lacks."""
    run_id, document, tasks, address = run.record.run_id, there["run"], there["tasks"], request.license
    people = [_person(text) for text in request.author]
    inputs = [_input(one) for one in document.get("inputs") or []]
    states = ", ".join(f"{count} {state}" for state, count in tasks["states"].items())
    about = f"Table and provenance of {tasks['total']} tasks ({states}), run by hpc-agent"
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": request.name or f"Results of {run_id}",
        "description": request.description or about,
        "datePublished": iso(now),
        "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": name} for name in sorted(files)],
        "mentions": {"@id": "#run"},
        "license": {"@id": address} if address else NO_LICENSE,
        **({"author": _refer(people)} if people else {}),
    }
    entities = [
        {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": CRATE}},
        root,
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        *people,
        *_software(document),
        _action(run, tasks, inputs, people, files),
        *inputs,
    ]
    if address:
        entities.append({"@id": address, "@type": "CreativeWork", "name": address.rstrip("/").rpartition("/")[2]})
    for name, data in sorted(files.items()):
        described, kind = FILES[name]
        described += f"; {partial}" if partial and name in TABLES else ""
        entity = {"@id": name, "@type": "File", "name": name, "description": described, "encodingFormat": kind}
        entities.append({**entity, "contentSize": str(len(data))})
    return entities


def _action(
    run: KnownRun, tasks: dict[str, Any], inputs: list[Entity], people: list[Entity], files: dict[str, bytes]
) -> Entity:
    """Return the run as an entity."""
    total, left = tasks["total"], tasks["total"] - tasks["states"].get("complete", 0)
    given = [{"@id": name} for name in ("tasks.py", "tasks.jsonl") if name in files]
    times = {"startTime": tasks["first"], "endTime": tasks["last"]}
    return {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"{total} tasks of {run.record.run_id}",
        "description": f"{run.record.executor}, once for each task, as job arrays on {run.record.cluster}",
        "instrument": {"@id": "#command"},
        "object": _refer([*inputs, *given]),
        "result": _refer([{"@id": name} for name in TABLES if name in files]),
        "actionStatus": f"http://schema.org/{'Failed' if left else 'Completed'}ActionStatus",
        "agent": _refer(people) or {"@id": "#hpc-agent"},
        **({"error": f"{left} of {total} tasks are not complete"} if left else {}),
        **{name: iso(at).replace("Z", "+00:00") for name, at in times.items() if at},
    }


def _refer(entities: list[Entity]) -> Any:
    """Return references to the entities; RO-Crate wants one alone not to be a list."""
    found = [{"@id": entity["@id"]} for entity in entities]
    return found[0] if len(found) == 1 else found


def _software(document: dict[str, Any]) -> list[Entity]:
    """Return the command with its version, and hpc-agent."""
    git = document.get("git") or {}
    commit = f"git commit {git['commit']}{' with changes' if git['dirty'] else ''}, " if "commit" in git else ""
    told = (
        ("#command", document["executor"], f"{commit}files SHA-256 {document['tree_sha']}"),
        ("#hpc-agent", "hpc-agent", document.get("hpc_agent_version") or __version__),
    )
    command, agent = (
        {"@id": name, "@type": "SoftwareApplication", "name": title, "softwareVersion": version}
        for name, title, version in told
    )
    return [{**command, "description": "the command of a task, run in the frozen copy of its repo"}, agent]


def _person(text: str) -> Entity:
    name, _, address = text.partition(" http")
    identifier = f"http{address}" if address else f"#{name.replace(' ', '-')}"
    return {"@id": identifier, "@type": "Person", "name": name.strip()}


def _input(one: dict[str, Any]) -> Entity:
    """Return a declared input, which is not in the crate: it is named by its hash."""
    told = f"{one['files']} files, {one['bytes']} bytes, SHA-256 {one['sha256']}"
    told += f"; {one['sampled']} of them by samples" if one["sampled"] else ""
    return {"@id": f"#input-{one['sha256'][:16]}", "@type": "CreativeWork", "name": one["path"], "description": told,
            "identifier": f"sha256:{one['sha256']}"}  # fmt: skip


def _write(output: Path, files: dict[str, bytes]) -> None:
    """Write the crate: a new zip file, or a new folder, in place of an older crate.

    A kill leaves the older crate, at worst under the name that it has while the new folder takes its place.
    """
    make_folder(str(output.parent))
    building, old = (output.with_name(f".{output.name}.{part}") for part in ("building", "old"))
    _remove(building)
    try:
        if output.suffix == ".zip":
            with zipfile.ZipFile(building, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in sorted(files.items()):
                    archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), data, zipfile.ZIP_DEFLATED)
        else:
            building.mkdir()
            for name, data in files.items():
                write_bytes(str(building / name), data)
            if output.is_dir():
                _remove(old)
                output.rename(old)
        building.replace(output)
    finally:
        _remove(building)
    _remove(old)


def _remove(path: Path) -> None:
    """Remove what an earlier call left: a folder of ours, or a file."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
