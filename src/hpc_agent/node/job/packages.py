"""Print the interpreter and its packages as JSON. Run as ``python -c`` by the interpreter that the tasks of a run use.

The names of the folders that pip, conda and distributions leave beside a package are enough: no package is imported.
"""

import json
import os
import platform
import re
import sys
from typing import Dict, List

MOST = 2000


def packages(folders: List[str]) -> Dict[str, str]:
    """Return name -> version of the packages in the folders; of two the one that Python finds first."""
    found: Dict[str, str] = {}
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in names:
            stem, kind = os.path.splitext(entry)
            if kind not in (".dist-info", ".egg-info"):
                continue
            name, _, version = re.sub(r"-py\d[\d.]*$", "", stem).partition("-")
            if not version:
                version = _version_in(os.path.join(folder, entry))
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return found


def _version_in(path: str) -> str:
    for name in ("PKG-INFO", "METADATA", ""):
        try:
            with open(os.path.join(path, name) if name else path, "rb") as handle:
                for line in handle:
                    if line.startswith(b"Version:"):
                        return line.partition(b":")[2].strip().decode("utf-8", "replace")
        except OSError:
            continue
    return "unknown"


if __name__ == "__main__":
    every = packages([folder for folder in sys.path if folder])
    document = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "packages": {name: every[name] for name in sorted(every)[:MOST]},
        "package_count": len(every),
    }
    sys.stdout.write(json.dumps(document) + "\n")
