"""A task's metrics: ``metrics.json`` in its result folder, or the JSON or CSV file that the run names."""

import csv
import json
import math
import os
from typing import Any, Dict, List, Optional, Tuple

DEFAULT_FILE = "metrics.json"
MAX_BYTES = 4 << 20
MAX_ROWS = 10000

Problem = Dict[str, Any]


def read(folder: str, results: Dict[str, Any]) -> Tuple[Dict[str, Any], Optional[Problem]]:
    """Numbers by name (a list for several observations), and what was wrong.

    A problem is fatal when the run names its file: then a task without it is not complete. The default file may be
    missing, and a broken one is only reported.
    """
    name = results.get("metrics_file") or DEFAULT_FILE
    declared = bool(results.get("metrics_file"))
    path = os.path.join(folder, name)
    try:
        if os.path.getsize(path) > MAX_BYTES:
            return {}, {"fatal": declared, "message": "%s is larger than %d bytes" % (name, MAX_BYTES)}
        values = _read_csv(path) if name.lower().endswith(".csv") else _read_json(path)
    except OSError as error:
        missing = "the executor ended with exit code 0 but wrote no %s into $HPC_RESULT_DIR" % name
        return {}, {"fatal": True, "message": missing} if declared else None if error.errno == 2 else _broken(
            name, error, False
        )
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        return {}, _broken(name, error, declared)
    return values, None


def _broken(name: str, error: Exception, fatal: bool) -> Problem:
    return {"fatal": fatal, "message": "%s cannot be read: %s" % (name, error)}


def _read_json(path: str) -> Dict[str, Any]:
    with open(path, "r", encoding="utf-8") as handle:
        document = json.load(handle)
    if not isinstance(document, dict):
        raise ValueError("it must hold a JSON object of numbers")
    return numbers_of(document)


def numbers_of(document: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Numbers, and lists of numbers, of an object; nested names are joined by a dot. Everything else is left out."""
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
    """NaN and infinities as text: the record stays strict JSON, and the combiner counts them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _read_csv(path: str) -> Dict[str, Any]:
    """Numeric columns; one row gives a number, several rows give a list of observations."""
    columns: Dict[str, List[Any]] = {}
    with open(path, "r", encoding="utf-8", newline="") as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            if number >= MAX_ROWS:
                raise ValueError("it has more than %d rows" % MAX_ROWS)
            for name, text in row.items():
                if isinstance(name, str) and isinstance(text, str):
                    try:
                        columns.setdefault(name, []).append(_plain(_number(text)))
                    except ValueError:
                        continue
    return {name: values[0] if len(values) == 1 else values for name, values in columns.items()}


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return float(text)
