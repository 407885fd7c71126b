"""``export-package``: notebooks as the modules of a package."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.generated_file import compare_generated, edited, write_generated
from hpc_agent.experiment.writing.notebook_modules import module_source
from hpc_agent.experiment.writing.scaffolds import check_module_name
from hpc_agent.node.shared.files import read_json
from hpc_agent.state.layout import RepoLayout, experiment_root
from hpc_agent.world import World

FOLDERS = ("pipeline", "executors", "scripts")
CACHE = ".build-cache.json"
PACKAGE_TAKEN = frozenset(("hpc_agent",))
# A part of every key: raise it when the same notebook becomes another text.
CONVERTER = "1"


class ExportPackageRequest(Request):
    """Which repo, and the name of the package."""

    experiment_dir: Annotated[str, Meta(description="the experiment repo")] = "."
    package: Annotated[str | None, Meta(description="package below src/; the repo's name made an identifier")] = None
    force: Annotated[bool, Meta(description="replace modules that were edited by hand")] = False


class ExportedNotebook(msgspec.Struct, frozen=True):
    notebook: str
    module: str
    state: Annotated[
        Literal["written", "cached", "edited"],
        Meta(description="cached: neither has changed; edited: the module was, the notebook was not; it is left alone"),
    ]


class ExportPackageResult(Result):
    package: str
    notebooks: Annotated[list[ExportedNotebook], Meta(description="every notebook, by path")]
    orphaned: Annotated[list[str], Meta(description="modules whose notebook is gone; they are not deleted")]
    inits: Annotated[list[str], Meta(description="__init__.py files that were made now; others are left alone")]
    deduped: Annotated[bool, Meta(description="true: nothing was written now")]


class Exported(msgspec.Struct, frozen=True):
    """What is remembered of a module: its notebook, the notebook's key, and the text that was last written."""

    notebook: str
    key: str
    sha: str


@dataclass(frozen=True)
class Plan:
    """One notebook; ``text`` is None where nothing has to be written."""

    notebook: str
    module: str
    key: str
    state: Literal["written", "cached", "edited"]
    text: str | None


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid])
def export_package(request: ExportPackageRequest, world: World) -> ExportPackageResult:
    """Build src/<package>/ from notebooks/{pipeline,executors,scripts}/*.ipynb.

    Each notebook becomes a module: cells in order, markdown as comments, magics, shell lines and cells tagged
    hpc-skip left out. All are checked before any is written. A module that was edited by hand is replaced only
    with --force; an unchanged notebook is not converted again.
    """
    repo = experiment_root(world.cwd, request.experiment_dir)
    package = _package(repo, request.package)
    compare_generated(repo.hpc / CACHE, "", repo.root)
    known = _load(repo.hpc / CACHE)
    plans = [
        _plan(repo, notebook, module, known.get(module), request.force)
        for module, notebook in sorted(_targets(repo, package).items())
    ]
    if not plans and not known:
        raise SpecInvalid(
            f"there is no notebook in {repo.root}/notebooks/{{{','.join(FOLDERS)}}}",
            field="experiment_dir",
            remediation="Put one into notebooks/executors/, then run 'hpc-agent export-package' again.",
        )
    inits = _missing_inits(repo, package, plans)
    _write(repo, plans, inits, known)
    planned = {plan.module for plan in plans}
    return ExportPackageResult(
        package=package,
        notebooks=sorted((ExportedNotebook(p.notebook, p.module, p.state) for p in plans), key=lambda e: e.notebook),
        orphaned=sorted(module for module in known if module not in planned and (repo.root / module).is_file()),
        inits=inits,
        deduped=not inits and all(plan.text is None for plan in plans),
    )


def _package(repo: RepoLayout, asked: str | None) -> str:
    return check_module_name(asked if asked is not None else _identifier(repo.root.name), "package", PACKAGE_TAKEN)


def _identifier(name: str) -> str:
    """The name with what Python cannot have in one replaced by ``_``: ``01-load data`` -> ``n01_load_data``."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    plain = "n" + plain if plain[:1].isdigit() else plain
    return plain + "_" if keyword.iskeyword(plain) else plain


def _targets(repo: RepoLayout, package: str) -> dict[str, str]:
    """Module -> notebook, as paths in the repo. Raises SpecInvalid where two notebooks would become one module."""
    targets: dict[str, str] = {}
    for folder, notebook in _notebooks(repo.root):
        name = notebook.relative_to(repo.root).as_posix()
        stem = _identifier(notebook.stem)
        module = f"src/{package}/{folder}/{stem}.py"
        if not stem.isidentifier() or stem == "__init__" or module in targets:
            taken = targets.get(module)
            raise SpecInvalid(
                f"{name} would become {module}"
                + (f", as {taken} does" if taken else ", which is no module of its own"),
                field="experiment_dir",
                remediation=f"Rename {name}, then run 'hpc-agent export-package' again.",
                details={"notebook": name, "module": module},
            )
        targets[module] = name
    return targets


def _notebooks(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for path in sorted((root / "notebooks" / folder).glob("*.ipynb")):
            if path.is_file():
                yield folder, path


def _plan(repo: RepoLayout, notebook: str, module: str, known: Exported | None, force: bool) -> Plan:
    """What to do about one notebook. Raises SpecInvalid for a bad notebook, or a module edited by hand that would change."""
    content = (repo.root / notebook).read_bytes()
    key = _sha(CONVERTER.encode() + notebook.encode() + b"\0" + content)
    target = repo.root / module
    on_disk = _sha(target.read_bytes()) if target.is_file() else None
    unchanged = known is not None and known.key == key
    if known and unchanged and on_disk == known.sha:
        return Plan(notebook, module, key, "cached", None)
    text = module_source(notebook, content)
    state = compare_generated(target, text, repo.root)
    if state == "same":
        return Plan(notebook, module, key, "cached", None)
    by_hand = state == "differs" and (known is None or on_disk != known.sha)
    if not by_hand or force:
        return Plan(notebook, module, key, "written", text)
    if unchanged:
        return Plan(notebook, module, key, "edited", None)
    raise edited(target)


def _missing_inits(repo: RepoLayout, package: str, plans: list[Plan]) -> list[str]:
    folders = {f"src/{package}"} | {plan.module.rpartition("/")[0] for plan in plans} if plans else set()
    inits = sorted(f"{folder}/__init__.py" for folder in folders)
    return [
        path
        for path in inits
        if not (repo.root / path).is_file() and compare_generated(repo.root / path, "", repo.root)
    ]


def _write(repo: RepoLayout, plans: list[Plan], inits: list[str], known: dict[str, Exported]) -> None:
    """Write and remember, one module after the other: a kill in between leaves a memory that is true."""
    for path in inits:
        write_generated(repo.root / path, "", False, repo.root)
    memory = {module: entry for module, entry in known.items() if (repo.root / module).is_file()}
    for plan in plans:
        target = repo.root / plan.module
        if plan.text is not None:
            write_generated(target, plan.text, True, repo.root)
        if plan.state != "edited":
            memory[plan.module] = Exported(plan.notebook, plan.key, _sha(target.read_bytes()))
        if plan.text is not None:
            _save(repo, memory)
    if memory != known:
        _save(repo, memory)


def _save(repo: RepoLayout, memory: dict[str, Exported]) -> None:
    document = {"modules": msgspec.to_builtins(memory)}
    write_generated(repo.hpc / CACHE, json.dumps(document, indent=1, sort_keys=True) + "\n", True, repo.root)


def _load(path: Path) -> dict[str, Exported]:
    """What was exported before; a memory that cannot be read is none, so that what differs counts as edited."""
    try:
        document: Any = read_json(str(path), {})
        return msgspec.convert(document.get("modules", {}), dict[str, Exported])
    except (ValueError, AttributeError):
        return {}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
