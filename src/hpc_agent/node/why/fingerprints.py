"""Reduce a message to the part that is the same from task to task."""

import re

from .log_traces import WIDTH, clean

FINGERPRINT_LIMIT = 200

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?"
_TIME = re.compile(
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:[T ]%s(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?" % _CLOCK
    + r"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:%s) [0-9]{1,2} %s(?: [A-Z]{3,4})?(?: [0-9]{4})?" % (_MONTHS, _CLOCK)
    + r"|[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_HEX = re.compile(
    r"0[xX][0-9a-fA-F]+|(?<![0-9A-Za-z])(?=[a-fA-F]*[0-9])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,}(?![0-9A-Za-z])"
)
_NUMBER = re.compile(r"(?:(?<![\w>.-])-)?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DELIMITERS = re.compile(r"([\s'\"`,;:()\[\]{}=|]+)")
_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")


def fingerprint(text: str, host: str = "") -> str:
    """Return the line without times, folders, hexadecimal ids, numbers and the host, which differ from task to task."""
    text = " ".join(clean(text[: 4 * WIDTH]).split())
    for name in (host, host.partition(".")[0]):
        if name:
            text = re.sub(r"(?<![\w<])%s(?![\w>])" % re.escape(name), "<host>", text)
    # Cutting may bare a path that was none before; it settles at once.
    for _ in range(4):
        pieces = _DELIMITERS.split(_TIME.sub("<time>", text))
        pieces[::2] = map(_token, pieces[::2])
        earlier, text = text, "".join(pieces)[:FINGERPRINT_LIMIT].rstrip()
        if text == earlier:
            break
    return text


def _token(token: str) -> str:
    stem = token.rstrip("/")
    is_path = token.startswith(("/", "./", "../", "~/")) or token.count("/") > 1 or _SUFFIX.search(token)
    if "/" in token and is_path and stem:
        return "<path>/" + without_numbers(stem.rpartition("/")[2])
    return without_numbers(token)


def without_numbers(text: str) -> str:
    return _NUMBER.sub("<n>", _HEX.sub("<hex>", _UUID.sub("<id>", text)))
