"""Reports and journals of runs as resources: ``run://RUN_ID/report`` and ``run://RUN_ID/journal``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from hpc_agent.errors import HpcError, SpecInvalid
from hpc_agent.mcp_server.calls import Outcome, run_verb
from hpc_agent.mcp_server.session import Session
from hpc_agent.mcp_server.work import Work
from hpc_agent.state.repo_files import IDENTIFIER

NEWEST = 10


class Kind(NamedTuple):
    """A kind of resource that every run has."""

    mime_type: str
    description: str


KINDS = {
    "report": Kind("text/html", "One page about a run, made anew: results, charts, what is missing, usage, failures."),
    "journal": Kind("application/x-ndjson", "What this machine remembers of a run: one JSON line for each event."),
}
TEMPLATES = {kind: f"run://{{run_id}}/{kind}{{?experiment_dir}}" for kind in KINDS}


class Address(NamedTuple):
    """The run, kind and repo that a URI names."""

    run_id: str
    kind: str
    experiment_dir: str


def address(uri: str) -> Address:
    """Return what a URI names. Raises SpecInvalid for another URI than those of the templates."""
    place = None if "\0" in unquote(uri) else _place(uri)
    if place is None:
        forms = " and ".join(TEMPLATES.values())
        raise SpecInvalid(f"there is no resource {uri[:200]}", field="uri", remediation=f"The resources are {forms}.")
    return place


def _place(uri: str) -> Address | None:
    try:
        parts = urlsplit(uri)
    except ValueError:  # brackets that hold no address
        return None
    kind = parts.path.strip("/")
    if parts.scheme != "run" or kind not in KINDS or not IDENTIFIER.fullmatch(parts.netloc):
        return None
    return Address(parts.netloc, kind, parse_qs(parts.query).get("experiment_dir", ["."])[-1])


def newest(session: Session) -> list[tuple[str, str, str]]:
    """Return URI, name and kind of the resources of the newest runs in the server's folder."""
    from hpc_agent.ops.run.known_run import journal_of

    try:
        records, _ = journal_of(session.world, ".")[1].all()
    except HpcError:
        return []
    return [
        (f"run://{record.run_id}/{kind}", f"{kind} of {record.run_id} ({record.status})", kind)
        for record in records[:NEWEST]
        for kind in KINDS
    ]


def begin_report(session: Session, place: Address) -> tuple[tuple[str, ...], Work]:
    """Return the work that makes the page of a run, with its key: the one under way, else a new one."""
    key = ("resource", *place)
    return key, session.works.begin(key, lambda work: _report(session, place, work))


def _report(session: Session, place: Address, work: Work) -> Outcome:
    """Make the page in a folder of its own: nothing is written into the repo. The text is in the data as ``page``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        asked = {"run_id": place.run_id, "experiment_dir": place.experiment_dir, "output": str(path)}
        outcome = run_verb("report", asked, session.world_of(work))
        if outcome.ok:
            outcome.data["page"] = path.read_text(encoding="utf-8")
        return outcome


def journal_text(session: Session, place: Address) -> str:
    """Return the lines of a run's journal. Raises RunNotFound, JournalCorrupt, SpecInvalid."""
    from hpc_agent.ops.run.known_run import journal_of, load_record

    repo, journal = journal_of(session.world, place.experiment_dir)
    record = load_record(journal, repo, place.run_id)
    return journal.path(record.run_id).read_text(encoding="utf-8", errors="replace")
