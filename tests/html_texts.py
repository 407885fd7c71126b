"""The texts of HTML, which must be well-formed."""

from __future__ import annotations

from html.parser import HTMLParser


def texts(page: str) -> list[str]:
    found, stack = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

        def handle_data(self, data):
            found.append(data)

    Reader().feed(page)
    assert stack == []
    return found
