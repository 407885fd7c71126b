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
from typing import Any

from hpc_agent.cli.completion.names import remember
from hpc_agent.cli.field import as_text, check_path, value_at
from hpc_agent.cli.globals import Globals, take_globals
from hpc_agent.cli.parse import batch_in, find_verb, load_catalogue, parse_request
from hpc_agent.contract import envelope
from hpc_agent.contract.advice import runnable
from hpc_agent.contract.catalogue import CatalogueEntry
from hpc_agent.contract.primitive import REGISTRY
from hpc_agent.errors import HpcError, InternalError, Interrupted, PreconditionFailed, StorageFull
from hpc_agent.world import World

_ACCESS = "Make the file accessible (HPC_JOURNAL_DIR moves the journal), then run the same 'hpc-agent' command."


def run(arguments: list[str]) -> int:
    catalogue = load_catalogue()
    try:
        chosen, words = take_globals(arguments)
        if not words or words[0] == "help" or not {"-h", "--help"}.isdisjoint(words) or words[1:] == []:
            from hpc_agent.cli.help import help_for

            if text := help_for(words, catalogue):
                sys.stdout.write(text)
                return 0
        verb, line = _call(words, catalogue, chosen)
        if chosen.field:
            line = as_text(value_at({"partial_errors": [], **json.loads(line)}, chosen.field, verb))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is answered with an envelope and no traceback
        failed = _as_answer(error)
        return _write_answer(envelope.failure(failed), failed.exit_code)
    return _write_answer(line, 0)


def _as_answer(error: BaseException) -> HpcError:
    if isinstance(error, HpcError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        from hpc_agent.node.shared.files import is_disk_full

        message = (f"{error.filename}: " if error.filename else "") + str(error.strerror)
        if is_disk_full(error):
            return StorageFull(f"{message} (on this machine)")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return PreconditionFailed(message, remediation=_ACCESS)
    return InternalError(message, details={"traceback": traceback.format_exc()[-4000:]})


def _call(arguments: list[str], catalogue: dict[str, CatalogueEntry], chosen: Globals) -> tuple[str, bytes]:
    """Return the verb's name and the line of its answer."""
    verb, rest = find_verb(arguments, catalogue)
    entry = catalogue[verb]
    world = World()
    verb, document = batch_in(verb, parse_request(verb, entry, rest, world.stdin, world.cwd))
    entry = catalogue[verb]
    importlib.import_module(entry.module)
    primitive = REGISTRY[verb]
    request = envelope.convert(document, primitive.request, verb)
    if chosen.field:
        check_path(chosen.field, verb, primitive.result.__struct_fields__)
    if entry.progress:
        from hpc_agent.view.progress import for_stderr

        world = replace(world, progress=for_stderr(world.env))

    def whole_command() -> str:
        from hpc_agent.ops.run.command_line import command_line

        return command_line(verb, request)

    def with_whole_commands(answer: Any, again: bool) -> Any:
        # the advice of a verb with a folder of its own (demo) begins with a change to it
        takes_repo = any(flag.path == ["experiment_dir"] and flag.default == "." for flag in entry.flags)
        folder = document.get("experiment_dir", ".") if takes_repo else "."
        return runnable(answer, verb, whole_command if again else None, folder, catalogue)

    try:
        # stdout is for the one line of JSON: what a primitive prints goes to stderr.
        with contextlib.redirect_stdout(sys.stderr):
            result = primitive.function(request, world)
        remember(entry.stage, request, result, world)
        return verb, envelope.success(primitive, result, lambda data: with_whole_commands(data, True))
    except HpcError as error:
        # A field that is to be corrected would be wrong in the same command again.
        again = (error.field or "").partition(".")[0] not in primitive.request.__struct_fields__
        advice = {"remediation": error.remediation, "details": error.details}
        vars(error).update(with_whole_commands(advice, again))
        raise
    finally:
        world.progress.close()


def _write_answer(line: bytes, code: int) -> int:
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
