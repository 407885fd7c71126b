"""Read the metrics of a task: ``metrics.json`` in its result folder, or the JSON or CSV file that the run names."""

import errno
import json
import math
import os
from typing import Any, Dict, List, Optional, Tuple

DEFAULT_FILE = "metrics.json"
MAX_BYTES = 4 << 20
MAX_ROWS = 10000


def read(folder: str, declared: Optional[str]) -> Tuple[Dict[str, Any], Optional[str]]:
    """Return numbers by name (a list for several observations), and the problem of the file, if there is one.

    ``declared`` is the file that the run names. The default file may be missing.
    """
    name = declared or DEFAULT_FILE
    path = os.path.join(folder, name)
    try:
        if os.path.getsize(path) > MAX_BYTES:
            return {}, "%s is larger than %d bytes" % (name, MAX_BYTES)
        return (_read_csv(path) if name.lower().endswith(".csv") else _read_json(path)), None
    except OSError as error:
        if declared:
            return {}, "the executor ended with exit code 0 but wrote no %s into $HPC_RESULT_DIR" % name
        return {}, None if error.errno == errno.ENOENT else "%s cannot be read: %s" % (name, error)
    except (ValueError, TypeError, RecursionError) as error:
        return {}, "%s cannot be read: %s" % (name, error)


def _read_json(path: str) -> Dict[str, Any]:
    with open(path, "r", encoding="utf-8") as handle:
        document = json.load(handle)
    if not isinstance(document, dict):
        raise ValueError("it must hold a JSON object of numbers")
    return numbers_of(document)


def numbers_of(document: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Return the numbers, and lists of numbers, of an object; nested names are joined by a dot. All else is left out."""
    values: Dict[str, Any] = {}
    for key, value in document.items():
        name = prefix + str(key)
        if isinstance(value, dict):
            values.update(numbers_of(value, name + "."))
        elif isinstance(value, list) and value and all(_is_number(item) for item in value[:MAX_ROWS]):
            values[name] = [_plain(item) for item in value[:MAX_ROWS]]
        elif _is_number(value):
            values[name] = _plain(value)
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Return the value, NaN and infinities as text: the record stays strict JSON, and the combiner counts them."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_csv(path: str) -> Dict[str, Any]:
    """Return the numeric columns: a number for a file of one row, else a list of observations."""
    import csv  # most tasks write JSON

    columns: Dict[str, List[Any]] = {}
    with open(path, "r", encoding="utf-8", newline="") as handle:
        try:
            for number, row in enumerate(csv.DictReader(handle)):
                if number >= MAX_ROWS:
                    raise ValueError("it has more than %d rows" % MAX_ROWS)
                for name, text in row.items():
                    if isinstance(name, str) and isinstance(text, str):
                        _add_number(columns.setdefault(name, []), text)
        except csv.Error as error:
            raise ValueError(str(error)) from error
    return {name: values[0] if len(values) == 1 else values for name, values in columns.items()}


def _add_number(values: List[Any], text: str) -> None:
    for kind in (int, float):
        try:
            return values.append(_plain(kind(text)))
        except ValueError:
            continue
