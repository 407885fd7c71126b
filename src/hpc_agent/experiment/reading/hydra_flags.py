"""Parameters of hydra: the keys of the configuration that ``@hydra.main`` names, with the files of its defaults list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hpc_agent.experiment.reading import syntax
from hpc_agent.experiment.reading.flag_facts import ExecutorFacts, FlagFacts
from hpc_agent.experiment.reading.modules import Module, StartedCall
from hpc_agent.experiment.reading.syntax import Unknown, as_json

_MISSING = "???"
MOST_DEPTH = 10


def read_hydra(module: Module, facts: ExecutorFacts) -> None:
    """Add the keys of the configuration as ``key=``, and each group of files as a parameter with the files as choices."""
    call = next((call for call in module.started if call.name.endswith("hydra.main")), None)
    if call is None:
        facts.doubt("hydra.compose() gets its overrides from elsewhere")
        return
    name, path = _setting(call, 1, "config_name"), _setting(call, 0, "config_path")
    if any(one.name.endswith("ConfigStore.instance") for one in module.started):
        facts.doubt("the configuration is made by dataclasses (ConfigStore), whose keys are not listed")
    if name is None or path is None:
        facts.doubt("the source does not name the file of hydra's configuration")
        return
    folder = (call.module.path.parent / path).resolve()
    if not folder.is_relative_to(module.root.resolve()) or not (folder / f"{_stem(name)}.yaml").is_file():
        facts.doubt(f"there is no configuration {path}/{_stem(name)}.yaml")
        return
    reader = _Configuration(folder, facts)
    reader.read(_stem(name), "", 0)
    reader.flags.update({flag.name: flag for flag in _own_keys()})
    facts.flags = list(reader.flags.values())


def _setting(call: StartedCall, at: int, name: str) -> str | None:
    node = call.node.args[at] if at < len(call.node.args) else syntax.keywords_of(call.node).get(name)
    value = call.module.scope.value_or(node, None)
    return value if isinstance(value, str) and "://" not in value else None


def _own_keys() -> list[FlagFacts]:
    """Return keys of hydra's own that matter to tasks which run at the same time: where each writes, and where it works."""
    folder = FlagFacts(name="hydra__run__dir", options=["hydra.run.dir="], hidden=True)
    return [folder, FlagFacts(name="hydra__job__chdir", options=["hydra.job.chdir="], type="bool", hidden=True)]


def _stem(name: str) -> str:
    return name.removesuffix(".yaml").removesuffix(".yml")


class _Configuration:
    """Collects flags from the files of a folder."""

    def __init__(self, folder: Path, facts: ExecutorFacts) -> None:
        self.folder, self.facts = folder, facts
        self.flags: dict[str, FlagFacts] = {}

    def read(self, name: str, package: str, depth: int) -> None:
        """Add the keys of one file below ``package``, after those of its defaults list."""
        shown = f"{self.folder.name}/{name}.yaml"
        try:
            text = (self.folder / f"{name}.yaml").read_text(encoding="utf-8")
            document = yaml.safe_load(text) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            self.facts.doubt(f"{shown} cannot be read")
            return
        if not isinstance(document, dict) or depth > MOST_DEPTH:
            self.facts.doubt(f"the keys of {shown} are not listed")
            return
        header = next((line.split()[2] for line in text.splitlines() if line.startswith("# @package ")), None)
        if header is not None:
            package = "" if header == "_global_" else package if header == "_group_" else header
        defaults = document.pop("defaults", [])
        entries = defaults if isinstance(defaults, list) else []
        later = entries.index("_self_") if "_self_" in entries else len(entries)
        for entry in entries[:later]:
            self._default(entry, name, package, depth)
        self._keys(document, package)
        for entry in entries[later + 1 :]:
            self._default(entry, name, package, depth)

    def _default(self, entry: Any, name: str, package: str, depth: int) -> None:
        """Follow one entry of a defaults list: a file of the same folder, or the chosen file of a group."""
        here = name.rpartition("/")[0]
        if isinstance(entry, str):
            path, at, target = entry.partition("@")
            self.read(self._path(path, here), target.replace("_global_", "") if at else package, depth + 1)
            return
        if not isinstance(entry, dict) or len(entry) != 1:
            self.facts.doubt(f"an entry of the defaults of {name}.yaml is not known")
            return
        [(words, chosen)] = entry.items()
        *marks, group = str(words).split()
        group, at, target = group.partition("@")
        if group.lstrip("/").partition("/")[0] in ("hydra", "hydra_logging", "job_logging"):
            return
        path = self._path(group, here)
        files = (
            sorted(file.stem for file in (self.folder / path).glob("*.yaml")) if (self.folder / path).is_dir() else []
        )
        if "override" not in marks:
            option = path + at + target
            key = option.replace("/", "__").replace("@", "__")
            flag = FlagFacts(name=key, options=[f"{option}="], choices=files or None, default=chosen)
            flag.required = chosen == _MISSING
            self.flags[key] = flag
        inner = (target.replace("_global_", "") if at else path.replace("/", ".")) if not at or target else ""
        for one in chosen if isinstance(chosen, list) else [chosen]:
            if isinstance(one, str) and one != _MISSING and "$" not in one:
                if "optional" not in marks or _stem(one) in files:
                    self.read(f"{path}/{_stem(one)}", inner, depth + 1)
            elif one is not None:
                self.facts.doubt(f"the file of the group {path} is chosen on the command line; its keys are not listed")
        self._others(path, [file for file in files if file != chosen], inner, depth)

    def _others(self, path: str, files: list[str], package: str, depth: int) -> None:
        """Add the keys that only files have which are not chosen by default."""
        for file in files:
            other = _Configuration(self.folder, self.facts)
            other.read(f"{path}/{file}", package, depth + 1)
            for name, flag in other.flags.items():
                flag.default, flag.default_text, flag.required = None, None, False
                self.flags.setdefault(name, flag)

    @staticmethod
    def _path(name: str, here: str) -> str:
        plain = _stem(name.removeprefix("optional ").strip())
        return plain.lstrip("/") if plain.startswith("/") or not here else f"{here}/{plain}"

    def _keys(self, document: dict[Any, Any], package: str) -> None:
        for key, value in document.items():
            path = f"{package}.{key}" if package else str(key)
            if path == "hydra":
                continue
            if isinstance(value, dict) and value:
                self._keys(value, path)
                continue
            flag = FlagFacts(name=path.replace(".", "__"), options=[f"{path}="])
            if value == _MISSING:
                flag.required = True
            elif isinstance(value, str) and "${" in value:
                flag.default_text, flag.dynamic = value, True
            else:
                self._set(flag, value)
            self.flags.pop(flag.name, None)
            self.flags[flag.name] = flag

    def _set(self, flag: FlagFacts, value: Any) -> None:
        """Set default and type. A number such as 1e-3, which YAML 1.1 takes for text, is one for hydra."""
        try:
            flag.default = as_json(value)
            flag.infer_type()
        except Unknown:
            flag.default_text = str(value)
        if isinstance(value, str):
            try:
                flag.default, flag.type = float(value), "float"
            except ValueError:
                return
