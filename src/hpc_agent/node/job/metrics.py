"""Read the metrics of a task: ``metrics.json`` in its result folder, or the JSON or CSV file that the run names.

A metric is taken as it is written, or is named among the ``left_out``: no number is guessed, cut or dropped silently.
"""

import csv
import errno
import io
import json
import math
import os
import re
import stat
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ..shared.files import read_json
from ..shared.metric_problems import COUNTED_AS_NAN, PLAIN_TEXT
from ..shared.rungs import LAST_REPORT, STOPPED_AT

DEFAULT_FILE = "metrics.json"
MAX_BYTES = 4 << 20
MAX_VALUES = 10000  # of one metric
MAX_LEFT_OUT = 100  # named in one record
EXACT_FLOAT = 1 << 53

# int() and float() also take 1_000 and the digits of other scripts.
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\Z", re.ASCII)
_WHOLE = re.compile(r"([-+]?[0-9]+)(\.0*)?\Z", re.ASCII)
_NON_FINITE = re.compile(r"[-+]?(nan|inf|infinity)\Z", re.IGNORECASE)
_MISSING = frozenset(("", "na", "n/a", "#n/a", "null", "none", "-"))
_LOOKS_LIKE_NUMBER = re.compile(
    r"[-+(<>=~$€£]*\s*[.,]?[0-9]|[-+]?[0-9.]*#(inf|ind|qnan|snan)|[-+]?nan\(", re.IGNORECASE
)
_SEPARATED = re.compile(r"[-+]?[0-9][0-9.,' _\u00a0\u202f]*\Z")


class Metrics(NamedTuple):
    """The metrics of one task. ``problem`` is that of the whole file."""

    values: Dict[str, Any] = {}  # numbers by name, a list for several observations; NaN and infinities as text
    left_out: List[Dict[str, str]] = []  # field, message, value (its beginning)
    problem: Optional[str] = None


class Pairs(List[Tuple[str, Any]]):
    """The members of a JSON object in their order, equal names included."""


def stamp(folder: str, declared: Optional[str]) -> Optional[Tuple[int, ...]]:
    """Return what changes when the metrics file is written; None where there is none."""
    try:
        found = os.stat(os.path.join(folder, declared or DEFAULT_FILE))
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read(folder: str, declared: Optional[str], earlier: Optional[Tuple[int, ...]] = None) -> Metrics:
    """Return the metrics in ``folder``. ``declared`` is the file that the run names; the default file may be missing.

    ``earlier`` is the stamp of the file before this attempt, which may begin in the folder of one that was killed.
    """
    name = declared or DEFAULT_FILE
    path = os.path.join(folder, name)
    if earlier is not None and stamp(folder, declared) == earlier:
        return Metrics(problem="%s is of an earlier attempt: this one ended with exit code 0 and wrote none" % name)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return Metrics(problem="%s is no regular file" % name)
        if found.st_size > MAX_BYTES:
            return Metrics(problem="%s is larger than %d bytes" % (name, MAX_BYTES))
        return _read_csv(path) if name.lower().endswith((".csv", ".tsv")) else _read_json(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.islink(path):
            wrote_none = "the executor ended with exit code 0 but wrote no %s into $HPC_RESULT_DIR" % name
            return Metrics(problem=wrote_none if declared else None)
        return Metrics(problem="%s is there but cannot be opened: %s" % (name, error.strerror))
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        return Metrics(problem="%s cannot be read: %s" % (name, error))


def with_last_report(
    found: Metrics, folder: str, declared: Optional[str], earlier: Optional[Tuple[int, ...]], attempt: int
) -> Metrics:
    """Return the metrics with the last reported value, where the file has none of that name, and with ``stopped_at``.

    The report is that of ``report`` in the experiment kit. A task that ended itself early needs no metrics file.
    ``earlier``: as for ``read``.
    """
    try:
        last = read_json(os.path.join(folder, LAST_REPORT), {})
        if last.get("attempt") != attempt:
            return found
        reported = {str(last["metric"]): _plain(last["value"])}
    except (OSError, ValueError, AttributeError, KeyError) as error:
        return found._replace(problem=found.problem or "%s cannot be read: %s" % (LAST_REPORT, error))
    values = {**reported, **found.values}
    if STOPPED_AT in last:
        wrote = stamp(folder, declared) not in (None, earlier)
        return found._replace(values={**values, STOPPED_AT: last[STOPPED_AT]}, problem=found.problem if wrote else None)
    return found if found.problem else found._replace(values=values)


def returned(text: str) -> Metrics:
    """Return the metrics that a registered function has returned, as it would have written them into a file."""
    if len(text) > MAX_BYTES:
        return Metrics(problem="%s is larger than %d bytes" % (DEFAULT_FILE, MAX_BYTES))
    try:
        return _from_text(text)
    except (ValueError, TypeError, RecursionError) as error:
        return Metrics(problem="%s cannot be read: %s" % (DEFAULT_FILE, error))


def _read_json(path: str) -> Metrics:
    return _from_text(_text_of(path))


def _from_text(text: str) -> Metrics:
    try:
        document = json.loads(text, object_pairs_hook=Pairs, parse_float=_number_of)
    except ValueError as error:
        if str(error).startswith("Extra data"):
            raise ValueError("it holds more than one JSON document: write one object") from error
        raise
    if not isinstance(document, Pairs):
        raise ValueError("it must hold a JSON object of numbers")
    return _collect((name, _from_json(value)) for name, value in _flat(document))


def _text_of(path: str) -> str:
    with io.open(path, encoding="utf-8-sig", newline="") as handle:
        text = handle.read()
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _flat(pairs: Pairs, prefix: str = "") -> Iterator[Tuple[str, Any]]:
    """Yield names and values; the names of nested objects are joined by a dot."""
    for key, value in pairs:
        if isinstance(value, Pairs):
            for inner in _flat(value, prefix + key + "."):
                yield inner
        else:
            yield prefix + key, value


class Taken(NamedTuple):
    """A value as the record keeps it, None for one that is left out; what is to be told of it, and its text."""

    value: Any
    message: Optional[str] = None
    sample: Any = None


def _collect(fields: Iterable[Tuple[str, Taken]]) -> Metrics:
    """Return the metrics; of a name that occurs twice, neither value."""
    values: Dict[str, Any] = {}
    told: Dict[str, Dict[str, str]] = {}
    seen: Dict[str, int] = {}
    for name, taken in fields:
        seen[name] = seen.get(name, 0) + 1
        if taken.value is not None:
            values[name] = taken.value
        if taken.message:
            told[name] = {"field": name[:200], "message": taken.message, "value": str(taken.sample)[:60]}
    for name in [name for name, times in seen.items() if times > 1]:
        values.pop(name, None)
        told[name] = {"field": name[:200], "message": "left out: the name occurs %d times" % seen[name], "value": ""}
    left_out = sorted(told.values(), key=lambda problem: problem["message"] == PLAIN_TEXT)
    more = len(left_out) - MAX_LEFT_OUT
    if more > 0:
        left_out[MAX_LEFT_OUT:] = [{"field": "", "message": "and %d more fields" % more, "value": ""}]
    return Metrics(values, left_out)


def _from_json(value: Any) -> Taken:
    if not isinstance(value, list):
        return _from_item(value)
    if not value:
        return Taken(None, "left out: an empty list", "[]")
    if len(value) > MAX_VALUES:
        return Taken(None, "left out: a list of more than %d values; write its mean, or fewer" % MAX_VALUES, len(value))
    items = [_from_item(item) for item in value]
    refused = next((item for item in items if item.value is None), None)
    if refused is not None:
        kind = str(refused.message).replace("left out: ", "", 1)
        return Taken(None, "left out: a list with %s" % kind, refused.sample)
    told = next((item for item in items if item.message), Taken(None))
    return Taken([item.value for item in items], told.message, told.sample)


def _from_item(value: Any) -> Taken:
    if value is None:
        return Taken("nan", COUNTED_AS_NAN, "null")
    if isinstance(value, bool):
        return Taken(None, "left out: true or false; write 1 or 0", value)
    if isinstance(value, (int, float)):
        return Taken(_plain(value))
    if isinstance(value, str):
        text = value.strip()
        return Taken(_plain(float(text))) if _NON_FINITE.match(text) else Taken(None, _refusal(text), text)
    return Taken(None, "left out: a nested list or object in a list", type(value).__name__)


def _refusal(text: str) -> str:
    if _SEPARATED.match(text) and not _NUMBER.match(text):
        return "left out: a decimal comma or a separator of digits; write 1234.5"
    if _LOOKS_LIKE_NUMBER.match(text):
        return "left out: text that begins as a number; write a bare number, without quotes or unit"
    return PLAIN_TEXT


def _plain(value: Any) -> Any:
    """Return the value, NaN and infinities as text: the record stays strict JSON, and the combiner counts them."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number_of(text: str) -> Any:
    """Return the number; an int for a whole one that a float would round, such as 9007199254740993.0."""
    whole = _WHOLE.match(text)
    if whole and (not whole.group(2) or abs(float(text)) >= EXACT_FLOAT):
        return int(whole.group(1))
    return float(text)


def _read_csv(path: str) -> Metrics:
    """Return the numeric columns: a number for a file of one row, else a list of observations."""
    header, rows = _rows(_text_of(path))
    if not rows:
        raise ValueError("it has one line; it needs a header line and rows")
    columns = []
    for position, name in enumerate(header):
        cells = [row[position] for row in rows]
        if name or any(cells):  # a comma at the end of each line is no column
            columns.append((name or "column %d" % (position + 1), _from_column(name, cells)))
    return _collect(columns)


def _rows(text: str) -> Tuple[List[str], List[List[str]]]:
    """Return the header and the rows. The delimiter is that of comma, semicolon, tab which splits the header most.

    Raises ValueError for a row of another length than the header, as one with decimal commas has.
    """
    delimiter = max(",;\t", key=lambda mark: len(next(csv.reader(io.StringIO(text, newline=""), delimiter=mark))))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader)]
    rows = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(header):
            raise ValueError(
                "line %d has %d fields, the header has %d (a decimal comma?)" % (reader.line_num, len(row), len(header))
            )
        rows.append([cell.strip() for cell in row])
        if len(rows) > MAX_VALUES:
            raise ValueError("it has more than %d rows" % MAX_VALUES)
    return header, rows


def _from_column(name: str, cells: List[str]) -> Taken:
    if not name:
        return Taken(None, "left out: a column without a name", cells[0])
    if _NUMBER.match(name):
        return Taken(None, "left out: the column's name is a number (is the header line missing?)", name)
    items = [_from_cell(cell) for cell in cells]
    refused = [item for item in items if item.value is None]
    blocking = next((item for item in refused if item.message != PLAIN_TEXT), None)
    if blocking is not None:
        return blocking
    if len(refused) == len(items):
        return refused[0]
    told = next((item for item in items if item.message), Taken(None))
    message = COUNTED_AS_NAN if told.message else None
    values = ["nan" if item.value is None else item.value for item in items]
    return Taken(values[0] if len(values) == 1 else values, message, told.sample)


def _from_cell(text: str) -> Taken:
    if _NUMBER.match(text):
        try:
            return Taken(_plain(_number_of(text)))
        except ValueError:  # Python 3.11 and later refuse an int of more than 4,300 digits
            return Taken(None, "left out: a number of more than 4300 digits", text)
    if text.lower() in _MISSING:
        return Taken("nan", COUNTED_AS_NAN, text or "an empty cell")
    if text.lower() in ("true", "false"):
        return _from_item(text.lower() == "true")
    return _from_item(text)
