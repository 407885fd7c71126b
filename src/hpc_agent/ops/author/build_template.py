"""``build-template``: the skeleton of an experiment, ready to be tested and submitted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hpc_agent.contract.primitive import Effect, Request, Result, primitive
from hpc_agent.errors import SpecInvalid
from hpc_agent.experiment.writing.generated_file import compare_generated, write_generated
from hpc_agent.experiment.writing.scaffolds import SCAFFOLDS
from hpc_agent.infra.transport import quote
from hpc_agent.world import World

# The notebook's skeleton is the script's with these files instead.
LAYERS = {"script": ("template_script",), "notebook": ("template_script", "template_notebook")}
PLACEHOLDER = "EXPERIMENT_NAME"
CACHES = frozenset(("__pycache__", ".ipynb_checkpoints", ".ruff_cache", ".pytest_cache"))


class BuildTemplateRequest(Request):
    """Where the skeleton goes, and what a task is."""

    repo_dir: Annotated[str, Meta(description="folder of the experiment; made where it is missing")] = "."
    shape: Annotated[
        Literal["script", "notebook"],
        Meta(description="a task is executors/train.py, or a function of notebooks/train.ipynb"),
    ] = "script"
    force: Annotated[bool, Meta(description="replace files that were edited")] = False


class SkeletonFile(msgspec.Struct, frozen=True):
    path: str
    state: Annotated[
        Literal["written", "kept", "differs"],
        Meta(description="kept: there already, byte for byte; differs: there with other content, left alone"),
    ]


class BuildTemplateResult(Result):
    repo_dir: str
    shape: str
    files: Annotated[list[SkeletonFile], Meta(description="every file of the skeleton, by path")]
    differing: Annotated[int, Meta(description="files that were left alone; --force replaces them")]
    next_steps: list[str]
    deduped: Annotated[bool, Meta(description="true: nothing was written now")]


@primitive(stage="author", effects=[Effect.FILES], errors=[SpecInvalid], positional="repo_dir")
def build_template(request: BuildTemplateRequest, world: World) -> BuildTemplateResult:
    """Write the skeleton of an experiment: a script or notebook, its grid, tests, Makefile and CI.

    It runs as it is: pytest passes, and its six tasks can be submitted. Files of yours are never overwritten without
    --force.
    """
    root = (world.cwd / Path(request.repo_dir).expanduser()).resolve()
    texts = skeleton(request.shape, _project_name(root))
    states = {path: compare_generated(root / path, text, root) for path, text in texts.items()}
    files = [
        SkeletonFile(path, "differs")
        if states[path] == "differs" and not request.force
        else SkeletonFile(path, write_generated(root / path, text, request.force, root))
        for path, text in texts.items()
    ]
    return BuildTemplateResult(
        repo_dir=str(root),
        shape=request.shape,
        files=files,
        differing=sum(file.state == "differs" for file in files),
        next_steps=[f"cd {quote([str(root)])}", "make test", "make plan", "make submit", "make table"],
        deduped=all(file.state != "written" for file in files),
    )


def skeleton(shape: str, project: str) -> dict[str, str]:
    """Path in the repo -> text, for every file, sorted by path."""
    texts = {}
    for layer in LAYERS[shape]:
        folder = SCAFFOLDS / layer
        for path in folder.rglob("*"):
            if path.is_file() and not CACHES & set(path.parts):
                texts[_target(path.relative_to(folder))] = path.read_text(encoding="utf-8").replace(
                    PLACEHOLDER, project
                )
    return dict(sorted(texts.items()))


def _target(stored: Path) -> str:
    """``dot_hpc/tasks.py`` is written as ``.hpc/tasks.py``; ``.txt`` hides pyproject.toml from this package's own tools."""
    return "/".join(re.sub("^dot_", ".", part) for part in stored.parts).removesuffix(".txt")


def _project_name(root: Path) -> str:
    """The folder's name as the name of a Python project."""
    return re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-").lower() or "experiment"
