"""Run one verb: parse, call, write the answer, return the exit code. No traceback reaches stdout."""

from __future__ import annotations

import contextlib
import importlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from hpc_agent.cli.completion.names import remember
from hpc_agent.cli.field import as_text, check_path, value_at
from hpc_agent.cli.globals import Globals, take_globals
from hpc_agent.cli.output import Declined, is_for_person, on_terminal, prepare_terminals, show, write_line
from hpc_agent.cli.parse import GROUP_WORDS, batch_in, find_verb, parse_request
from hpc_agent.contract import envelope
from hpc_agent.contract.any_error import as_hpc_error
from hpc_agent.contract.catalogue import CatalogueEntry, load_catalogue
from hpc_agent.contract.primitive import REGISTRY, Request
from hpc_agent.errors import HpcError, SpecInvalid
from hpc_agent.world import World


def run(arguments: list[str]) -> int:
    chosen, verb = Globals(), ""
    seen: Mapping[str, Any] = {}
    try:
        catalogue = load_catalogue()
        chosen, words = take_globals(arguments)
        if not words or words[0] == "help" or not {"-h", "--help"}.isdisjoint(words) or words in GROUP_WORDS:
            from hpc_agent.cli.help import help_for

            if text := help_for(words, catalogue):
                sys.stdout.write(text)
                return 0
        call = _Call(words, catalogue, chosen)
        verb = call.verb
        seen = call.confirm()
        call.take_token()
        line, code = call.answer(), 0
        if chosen.field:
            line = as_text(value_at({"partial_errors": [], **json.loads(line)}, chosen.field, verb))
    except Declined:
        sys.stdout.write("Nothing was submitted.\n")
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is answered with an envelope and no traceback
        failed = as_hpc_error(error)
        is_whole = chosen.full or is_for_person(chosen)
        whole = None if is_whole else lambda: shlex.join(["hpc-agent", *arguments, "--full"])
        line, code = envelope.failure(failed, whole), failed.exit_code
        chosen = replace(chosen, field=None)
    return _write(line, code, verb, chosen, seen)


def _write(line: bytes, code: int, verb: str, chosen: Globals, seen: Mapping[str, Any]) -> int:
    if not is_for_person(chosen):
        return write_line(line, code)
    try:
        show(line, verb, seen)
    except KeyboardInterrupt:
        return code or 1
    except OSError:  # the terminal is gone
        return code or 3
    return code


class _Call:
    """One call of a verb: its request, read from the command line, and its surroundings."""

    def __init__(self, words: list[str], catalogue: dict[str, CatalogueEntry], chosen: Globals) -> None:
        verb, rest = find_verb(words, catalogue)
        self.chosen, self.world = chosen, World()
        prepare_terminals(self.world.env)
        try:
            document = parse_request(verb, catalogue[verb], rest, self.world.stdin, self.world.cwd)
        except SpecInvalid as error:  # there is no adviser yet, which would name the verb
            error.remediation = error.remediation.replace("<verb>", verb)
            raise
        self.verb, self.document = batch_in(verb, document)
        self.entry = catalogue[self.verb]
        importlib.import_module(self.entry.module)
        self.primitive = REGISTRY[self.verb]
        self.request: Request = envelope.convert(self.document, self.primitive.request, self.verb)
        from hpc_agent.ops.run.invoke import adviser, refuse_unconfirmed

        refuse_unconfirmed(self.verb, self.request, self.world)
        self._advise = adviser(self.verb, self.request, self.document)
        if chosen.field:
            check_path(chosen.field, self.verb, self.primitive.result.__struct_fields__)

    def confirm(self) -> Mapping[str, Any]:
        """Show what is to be submitted, and ask the person at the terminal. Return what was shown. Raises Declined."""
        is_asked = "submit" in self.entry.effects and is_for_person(self.chosen) and on_terminal(sys.stdin)
        if not is_asked or self.chosen.yes:
            return {}
        from hpc_agent.cli.confirm import confirm

        return confirm(self.verb, self.request, self.world, self.data_of)

    def take_token(self) -> None:
        """With ``--yes``, confirm what a removal finds: the token of a look without one."""
        if self.chosen.yes and "remove" in self.entry.effects and not getattr(self.request, "confirm", None):
            token = self.data_of(self.request).get("token")
            self.request = msgspec.structs.replace(self.request, confirm=token)

    def data_of(self, request: Request) -> dict[str, Any]:
        """Return the data of the answer to another request of this verb."""
        return json.loads(self.answer(request))["data"]  # type: ignore[no-any-return]

    def answer(self, request: Request | None = None) -> bytes:
        """Call the verb. Return the line of its answer."""
        request = request or self.request
        world = self.world
        if self.entry.progress:
            from hpc_agent.view.progress import for_stderr

            world = replace(world, progress=for_stderr(world.env, view_follows=is_for_person(self.chosen)))
        try:
            # stdout is for the answer: what a primitive prints goes to stderr.
            with contextlib.redirect_stdout(sys.stderr):
                result = self.primitive.function(request, world)
            remember(self.entry.stage, request, result, world)
            is_program = not (self.chosen.field or is_for_person(self.chosen))
            is_whole = self.chosen.full or not is_program or envelope.asks_more(self.primitive, request)
            whole = None if is_whole else lambda: f"{self._whole_command()} --full"
            return envelope.success(self.primitive, result, lambda data: self._advise(data, True), whole)
        except HpcError as error:
            from hpc_agent.ops.run.invoke import correct

            correct(error, self.primitive.request, self._advise)
            raise
        finally:
            world.progress.close()

    def _whole_command(self) -> str:
        from hpc_agent.ops.run.command_line import command_line

        return command_line(self.verb, self.request)
