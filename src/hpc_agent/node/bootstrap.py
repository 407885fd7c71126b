"""Install the runtime on the cluster, then run a verb with it. Sent as ``python3 -c``.

stdin, compressed and in base64: one JSON line {"root", "sha", "files": {relative path: text}}, then the verb's request.
argv: VERB NONCE. A client that has installed the runtime before leaves ``files`` out, and is told where it has vanished since.
"""

import base64
import compileall
import errno
import io
import json
import os
import shutil
import sys
import zlib
from typing import Dict, Optional

MISSING = {"ok": False, "protocol": 1, "code": "remote_command_failed", "message": "the runtime is not on the cluster any more",
           "remediation": "Run the same 'hpc-agent' command again.", "details": {"runtime": "missing"}}  # fmt: skip


def install(root: str, sha: str, files: Optional[Dict[str, str]]) -> Optional[str]:
    """Write the runtime to ``<root>/runtime/<sha>`` unless it is there, and return that folder; None without ``files``."""
    root = os.path.normpath(os.path.expanduser(root))
    if os.path.basename(os.path.dirname(root)) != "hpc-agent":
        raise SystemExit("refusing to work in %r: not a folder <scratch>/hpc-agent/<repo>" % root)
    final = os.path.join(root, "runtime", sha)
    if os.path.isdir(final):
        return final
    if files is None:
        return None
    # Refuse a full disk: some versions of Python leave compiled files cut short there, without an error. Room is needed for
    # the files, the compiled files, and folders in whole pages.
    os.makedirs(root, exist_ok=True)
    space = os.statvfs(root)
    if space.f_bavail * space.f_frsize < 3 * sum(map(len, files.values())) + (1 << 18):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), root)
    building = "%s.building-%d-%s" % (final, os.getpid(), os.urandom(4).hex())
    try:
        for name in sorted(files):
            path = os.path.join(building, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(files[name])
            os.chmod(path, 0o444)
        # Compiled once here, not by every array element; a node with another version of Python ignores these files.
        compileall.compile_dir(building, ddir=final, quiet=2)
        os.rename(building, final)
    except OSError:
        if not os.path.isdir(final):
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return final


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    first, _, request = zlib.decompress(base64.b64decode(sys.stdin.buffer.read())).partition(b"\n")
    sys.stdin = io.TextIOWrapper(io.BytesIO(request))  # the verb reads its request there
    header = json.loads(first.decode("utf-8"))
    folder = install(header["root"], header["sha"], header.get("files"))
    if folder is None:
        print("\nHPC-AGENT-BEGIN %s\n%s\nHPC-AGENT-END %s" % (sys.argv[2], json.dumps(MISSING), sys.argv[2]))  # noqa: T201
        sys.exit(0)
    sys.path.insert(0, folder)
    from _hpc_runtime.entry import main  # type: ignore[import-not-found]

    sys.exit(main(sys.argv[1:]))
