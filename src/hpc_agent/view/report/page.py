"""Put the page together: one file with one style, one script and a policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from hpc_agent.view.report import explorer, results, sections
from hpc_agent.view.report.data import ReportData
from hpc_agent.view.report.markup import Markup, joined, note, tag
from hpc_agent.view.report.numbers import moment


def render(data: ReportData) -> tuple[str, list[str]]:
    """Return the page as HTML, and what it leaves out. It needs no network, and lacks only the choices without JavaScript."""
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    left_out = [*data.left_out, *data.binned["left_out"]]
    parts = [(key, title, content) for key, title, content in _parts(data, left_out) if content]
    parts.append(("left-out", "What this page leaves out", _left_out(left_out)))
    head = tag(
        "head", {},
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("title", {}, f"{data.title} \N{EN DASH} hpc-agent report"),
        tag("style", {}, Markup(style)),
    )  # fmt: skip
    nav = tag("nav", {"aria-label": "Parts of this page"},
              joined(tag("a", {"href": f"#{key}"}, title) for key, title, _ in parts))  # fmt: skip
    body = tag(
        "body", {},
        tag("header", {}, sections.header(data), nav),
        tag("main", {}, joined(
            tag("section", {"id": key, "aria-labelledby": f"{key}-title"}, tag("h2", {"id": f"{key}-title"}, title), content)
            for key, title, content in parts)),
        tag("footer", {}, note(f"Made {moment(data.made_at)} by hpc-agent {data.version}.")),
        tag("script", {}, Markup(script)),
    )  # fmt: skip
    return f"<!DOCTYPE html>\n{tag('html', {'lang': 'en'}, head, body)}\n", left_out


def _parts(data: ReportData, left_out: list[str]) -> list[tuple[str, str, Markup | None]]:
    """Return (id, title, content) of each section. A section adds to ``left_out`` what it has to leave out."""
    return [
        ("missing", "What is missing", sections.missing(data.gaps) if data.gaps else None),
        ("history", "History", sections.campaign(data.campaign, data.main) if data.campaign else None),
        ("results", "Results", results.table(data, left_out)),
        ("parameters", "Metric against parameters", explorer.explorer(data, left_out)),
        ("distribution", "Distribution", explorer.distribution(data, left_out)),
        ("failures", "Failures", joined(map(sections.failure, data.groups))),
        (
            "time",
            "Waves and tasks over time",
            sections.time_line(data, left_out),
        ),
        ("resources", "Asked and used", sections.resources(data.usage) if data.usage else None),
        ("provenance", "Provenance", joined(map(sections.provenance, data.provenance))),
    ]


def _left_out(sentences: list[str]) -> Markup:
    if not sentences:
        return tag("p", {}, "Nothing: every row and every chart of these results is here.")
    return tag("ul", {}, joined(tag("li", {}, sentence[0].upper() + sentence[1:] + ".") for sentence in sentences))


def _asset(name: str) -> str:
    return (files("hpc_agent.view.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the hash source of an inline script or style for a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
