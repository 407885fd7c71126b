"""Build HTML and SVG from values. Every text is escaped here, and nowhere else."""

from __future__ import annotations

import html
import json
import re
from typing import Any

VOID = {"meta", "input"}
# Control characters are no HTML, and the others of these change the direction or the place of the text around them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: Any) -> str:
    """Return a value as HTML text; a character that cannot be seen is shown as its code point."""
    if isinstance(text, Markup):
        return text
    return html.escape(_INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text)))


def tag(name: str, attributes: dict[str, Any] | None = None, *children: Any) -> Markup:
    """Return an element. An attribute that is None or False is left out, True stands alone; children that are None vanish."""
    words = [name]
    for key, value in (attributes or {}).items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escaped(_short(value))}"')
    inner = "".join(escaped(child) for child in children if child is not None)
    return Markup(f"<{' '.join(words)}>{inner}" + ("" if name in VOID else f"</{name}>"))


def joined(parts: Any) -> Markup:
    return Markup("".join(escaped(part) for part in parts if part is not None))


def _short(value: Any) -> Any:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def note(text: str) -> Markup:
    return tag("p", {"class": "note"}, text)


def embedded(identifier: str, document: Any) -> Markup:
    """Return JSON in a block that no browser runs, and that no text in it can close."""
    text = json.dumps(document, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
    return tag("script", {"type": "application/json", "id": identifier}, Markup(text))


def figure(title: str, chart: Markup, caption: str) -> Markup:
    return tag("figure", {}, tag("h3", {}, title), chart, tag("figcaption", {}, caption))
