"""Run one verb: parse, call, print the envelope, return the exit code. No traceback reaches stdout."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import traceback
from dataclasses import replace

from hpc_agent.cli.parse import find_verb, load_catalogue, overview, parse_request
from hpc_agent.contract import envelope
from hpc_agent.contract.primitive import REGISTRY
from hpc_agent.errors import HpcError, InternalError, Interrupted, PreconditionFailed, StorageFull
from hpc_agent.world import World


def run(arguments: list[str]) -> int:
    catalogue = load_catalogue()
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        sys.stdout.write(overview(catalogue))
        return 0
    try:
        line = _call(arguments, catalogue)
        code = 0
    except HpcError as error:
        line, code = envelope.failure(error), error.exit_code
    except KeyboardInterrupt:
        stopped = Interrupted("interrupted")
        line, code = envelope.failure(stopped), stopped.exit_code
    except OSError as error:
        known = _from_os(error)
        line, code = envelope.failure(known), known.exit_code
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug becomes an envelope, not a traceback
        bug = InternalError(f"{type(error).__name__}: {error}", details={"traceback": traceback.format_exc()[-4000:]})
        line, code = envelope.failure(bug), bug.exit_code
    return _emit(line, code)


def _call(arguments: list[str], catalogue: dict[str, dict[str, object]]) -> bytes:
    verb, rest = find_verb(arguments, catalogue)
    entry = catalogue[verb]
    world = World()
    document = parse_request(verb, entry, rest, world.stdin, world.cwd)
    importlib.import_module(str(entry["module"]))
    primitive = REGISTRY[verb]
    request = envelope.convert(document, primitive.request, verb)
    if entry.get("progress"):
        from hpc_agent.view.progress import for_stderr

        world = replace(world, progress=for_stderr(world.env))
    try:
        # A primitive's stray print must not break the one line of JSON.
        with contextlib.redirect_stdout(sys.stderr):
            result = primitive.function(request, world)
    finally:
        world.progress.close()
    return envelope.success(primitive, result)


def _from_os(error: OSError) -> HpcError:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{where}{error.strerror} (on this machine)")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PreconditionFailed(
            f"{where}{error.strerror}",
            remediation="Make it accessible (the journal's place is HPC_JOURNAL_DIR), then run the same 'hpc-agent' command.",
        )
    return InternalError(f"{where}{error.strerror}", details={"traceback": traceback.format_exc()[-4000:]})


def _emit(line: bytes, code: int) -> int:
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except AttributeError:
        return code or 3  # started with standard output closed
    except OSError as error:
        if error.errno != errno.EPIPE:
            sys.stderr.write(f"hpc-agent: cannot write the answer: {error.strerror}\n")
            code = code or 3
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code and sys.stderr.isatty() and not sys.stdout.isatty():
        failed = json.loads(line)
        sys.stderr.write(f"{failed['message']}\n{failed['remediation']}\n")
    return code
