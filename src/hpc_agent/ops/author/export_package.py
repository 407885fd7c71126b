"""``export-package``: write notebooks as the modules of a package."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.generated_file import compare_generated, edited, write_generated
from hpc_agent.experiment.writing.notebook_modules import module_source
from hpc_agent.experiment.writing.scaffolds import check_module_name
from hpc_agent.node.shared.files import read_json
from hpc_agent.ops.run.fields import ExperimentDir, doc
from hpc_agent.state.repo_files import RepoLayout, experiment_root
from hpc_agent.world import World

FOLDERS = ("pipeline", "executors", "scripts")
CACHE = ".build-cache.json"
PACKAGE_TAKEN = frozenset(("hpc_agent",))
# A part of every key; raise this number when the conversion changes.
CONVERTER = "1"
State = Literal["written", "cached", "edited"]


class ExportPackageRequest(Request):
    """The repo, and the name of the package."""

    experiment_dir: ExperimentDir = "."
    package: Annotated[str | None, doc("package below src/; the repo's name made an identifier")] = None
    force: Annotated[bool, doc("replace modules that were edited by hand")] = False


class ExportedNotebook(msgspec.Struct, frozen=True):
    notebook: str
    module: str
    state: Annotated[State, doc("cached: nothing changed; edited: the module was changed by hand and stays")]


class ExportPackageResult(Result):
    package: str
    notebooks: Annotated[list[ExportedNotebook], doc("every notebook, by path")]
    orphaned: Annotated[list[str], doc("modules whose notebook is gone; they are not deleted")]
    inits: Annotated[list[str], doc("__init__.py files that were made now; others are left alone")]
    deduped: Annotated[bool, doc("true: nothing was written now")]


class Exported(msgspec.Struct, frozen=True):
    """A module in the cache: its notebook, the notebook's key, and the hash of the written text."""

    notebook: str
    key: str
    sha: str


class Plan(NamedTuple):
    """The plan for one notebook; ``text`` is written only in the state ``written``."""

    notebook: str
    module: str
    key: str
    state: State
    text: str = ""


@primitive(
    stage="author",
    effects=[Effect.FILES],
    errors=[SpecInvalid],
    brief="notebooks as a package",
    example={"package": "study"},
    next_verbs=["discover-runs"],
)
def export_package(request: ExportPackageRequest, world: World) -> ExportPackageResult:
    """Build src/<package>/ from notebooks/{pipeline,executors,scripts}/*.ipynb.

    Each notebook becomes a module: cells in order, markdown as comments, without magics, shell lines and cells tagged
    hpc-skip. Every notebook is checked before a module is written. --force replaces a module that was edited by hand; an
    unchanged notebook is not converted again.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    name = _identifier(repo.root.name) if request.package is None else request.package
    package = check_module_name(name, "package", PACKAGE_TAKEN)
    compare_generated(repo.hpc / CACHE, "", repo.root)
    try:
        document: Any = read_json(str(repo.hpc / CACHE), {})
        known = msgspec.convert(document.get("modules", {}), dict[str, Exported])
    except (ValueError, AttributeError):
        known = {}  # unreadable: a module that differs counts as edited
    targets = sorted(_targets(repo, package).items())
    plans = [_plan(repo, notebook, module, known.get(module), request.force) for module, notebook in targets]
    if not plans and not known:
        message = f"there is no notebook in {repo.root}/notebooks/{{{','.join(FOLDERS)}}}"
        remedy = "Put one into notebooks/executors/, then run 'hpc-agent export-package' again."
        raise SpecInvalid(message, field="experiment_dir", remediation=remedy)
    inits = _write(repo, f"src/{package}", plans, known)
    planned = {plan.module for plan in plans}
    return ExportPackageResult(
        package=package,
        notebooks=sorted((ExportedNotebook(p.notebook, p.module, p.state) for p in plans), key=lambda e: e.notebook),
        orphaned=sorted(module for module in known if module not in planned and (repo.root / module).is_file()),
        inits=inits,
        deduped=not inits and all(plan.state != "written" for plan in plans),
    )


def _identifier(name: str) -> str:
    """Return the name as a Python identifier: ``01-load data`` -> ``n01_load_data``."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    plain = "n" + plain if plain[:1].isdigit() else plain
    return plain + "_" if keyword.iskeyword(plain) else plain


def _targets(repo: RepoLayout, package: str) -> dict[str, str]:
    """Return module -> notebook, as paths in the repo. Raises SpecInvalid when two notebooks make one module."""
    targets: dict[str, str] = {}
    found = (path for folder in FOLDERS for path in sorted((repo.root / "notebooks" / folder).glob("*.ipynb")))
    for path in filter(Path.is_file, found):
        name = path.relative_to(repo.root).as_posix()
        stem = _identifier(path.stem)
        module = f"src/{package}/{path.parent.name}/{stem}.py"
        if not stem.isidentifier() or stem == "__init__" or module in targets:
            other = f"as {targets[module]} does" if module in targets else "which is no module of its own"
            message, details = f"{name} would become {module}, {other}", {"notebook": name, "module": module}
            remedy = f"Rename {name}, then run 'hpc-agent export-package' again."
            raise SpecInvalid(message, field="experiment_dir", remediation=remedy, details=details)
        targets[module] = name
    return targets


def _plan(repo: RepoLayout, notebook: str, module: str, known: Exported | None, force: bool) -> Plan:
    """Plan one notebook. Raises SpecInvalid for a bad notebook, and for a module edited by hand that would change."""
    content = (repo.root / notebook).read_bytes()
    key = _sha(CONVERTER.encode() + notebook.encode() + b"\0" + content)
    target = repo.root / module
    on_disk = _sha(target.read_bytes()) if target.is_file() else None
    unchanged = known is not None and known.key == key
    if known and unchanged and on_disk == known.sha:
        return Plan(notebook, module, key, "cached")
    text = module_source(notebook, content)
    compared = compare_generated(target, text, repo.root)
    kept_by_hand = compared == "differs" and (known is None or on_disk != known.sha) and not force
    if kept_by_hand and not unchanged:
        raise edited(target)
    state: State = "cached" if compared == "same" else "edited" if kept_by_hand else "written"
    return Plan(notebook, module, key, state, text)


def _write(repo: RepoLayout, package: str, plans: list[Plan], known: dict[str, Exported]) -> list[str]:
    """Write each module and then its cache entry: a kill in between leaves a correct cache. Returns the new inits."""
    folders = {package, *(plan.module.rpartition("/")[0] for plan in plans)} if plans else set()
    paths = [f"{folder}/__init__.py" for folder in sorted(folders)]
    missing = [path for path in paths if not (repo.root / path).is_file()]
    inits = [path for path in missing if compare_generated(repo.root / path, "", repo.root)]
    for path in inits:
        write_generated(repo.root / path, "", False, repo.root)
    cache = {module: entry for module, entry in known.items() if (repo.root / module).is_file()}
    for plan in plans:
        target = repo.root / plan.module
        if plan.state == "written":
            write_generated(target, plan.text, True, repo.root)
        if plan.state != "edited":
            cache[plan.module] = Exported(plan.notebook, plan.key, _sha(target.read_bytes()))
        if plan.state == "written":
            _save(repo, cache)
    if cache != known:
        _save(repo, cache)
    return inits


def _save(repo: RepoLayout, cache: dict[str, Exported]) -> None:
    document = {"modules": msgspec.to_builtins(cache)}
    write_generated(repo.hpc / CACHE, json.dumps(document, indent=1, sort_keys=True) + "\n", True, repo.root)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
