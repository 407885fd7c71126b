"""Run a verb of the runtime and write nothing: for a look at a cluster where it is not installed. Sent as ``python3 -c``.

stdin, compressed and in base64: one JSON line {relative path: text}, then the verb's request. argv: VERB NONCE.
"""

import base64
import importlib.abc
import importlib.machinery
import io
import json
import sys
import types
import zlib
from typing import Any, Dict, Optional


class Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads modules from texts."""

    def __init__(self, files: Dict[str, str]) -> None:
        self.files = files

    def find_spec(
        self,
        name: str,
        path: Any = None,  # noqa: ARG002
        target: Any = None,  # noqa: ARG002
    ) -> Optional[importlib.machinery.ModuleSpec]:
        stem = name.replace(".", "/")
        for file in (stem + "/__init__.py", stem + ".py"):
            if file in self.files:
                package = file.endswith("/__init__.py")
                return importlib.machinery.ModuleSpec(name, self, origin=file, is_package=package)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:  # noqa: ARG002
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        file = str(module.__spec__.origin)  # type: ignore[union-attr]
        exec(compile(self.files[file], file, "exec"), module.__dict__)  # noqa: S102


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    first, _, request = zlib.decompress(base64.b64decode(sys.stdin.buffer.read())).partition(b"\n")
    sys.stdin = io.TextIOWrapper(io.BytesIO(request))  # the verb reads its request there
    sys.meta_path.insert(0, Modules(json.loads(first.decode("utf-8"))))
    from _hpc_runtime.entry import main  # type: ignore[import-not-found]

    sys.exit(main(sys.argv[1:]))
