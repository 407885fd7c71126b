"""The files of rows that tasks of a split series write: count the rows of one, append them to another."""

import ast
import json
import os
import re
import struct
from typing import IO, Any, Dict, Iterator, List, Sequence, Tuple

LINES = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt")
FORMATS = (*LINES, ".json", ".npy")
WITH_HEADER = (".csv", ".tsv")
_MAGIC = b"\x93NUMPY"


def row_count(path: str) -> int:
    """Return the rows of a file. Raises ValueError for one that is not of its format, OSError."""
    kind = os.path.splitext(path)[1].lower()
    if kind == ".npy":
        with open(path, "rb") as handle:
            header = _npy_header(handle)
            if os.fstat(handle.fileno()).st_size != handle.tell() + header["shape"][0] * _row_bytes(header):
                raise ValueError("it is not as long as its header says")
            return int(header["shape"][0])
    if kind == ".json":
        return _length(_read_json(path))
    with open(path, "rb") as handle:
        count = sum(1 for _ in _records(handle, kind))
    return max(0, count - 1) if kind in WITH_HEADER else count


class Joined(object):
    """A file that parts are appended to in order. ``rows`` is the number that it will have."""

    def __init__(self, path: str, rows: int) -> None:
        self._kind = os.path.splitext(path)[1].lower()
        self._rows = rows
        self._first: Any = None  # the header of the first part, which every other part has to have
        self._columns: Dict[str, List[Any]] = {}
        self._values: Any = None  # those columns, or the rows where there are none
        self._handle = open(path, "wb")

    def append(self, path: str, skip: int, take: int) -> None:
        """Append the rows ``skip`` .. ``skip + take`` of a part. Raises ValueError when it does not fit the others."""
        if self._kind == ".json":
            self._append_json(_read_json(path), skip, take)
            return
        with open(path, "rb") as part:
            if self._kind == ".npy":
                self._append_npy(part, skip, take)
            else:
                self._append_lines(part, skip, take)

    def close(self) -> None:
        if self._kind == ".json":
            self._handle.write(json.dumps(self._values).encode("ascii"))
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()

    def abandon(self) -> None:
        self._handle.close()

    def _is_first(self, header: Any) -> bool:
        """Return True for the first part. Raises ValueError when the header is another one than that of the first part."""
        first, self._first = self._first, header if self._first is None else self._first
        if first is not None and first != header:
            raise ValueError("its columns are %s, and those of the parts before %s" % (_short(header), _short(first)))
        return first is None

    def _append_lines(self, part: IO[bytes], skip: int, take: int) -> None:
        records = _records(part, self._kind)
        if self._kind in WITH_HEADER:
            header = next(records, b"")
            if self._is_first(header):
                self._handle.write(header)
        for number, record in enumerate(records):
            if skip <= number < skip + take:
                self._handle.write(record)

    def _append_npy(self, part: IO[bytes], skip: int, take: int) -> None:
        header = _npy_header(part)
        shape = header["shape"][1:]
        if self._is_first((header["descr"], shape)):
            self._handle.write(_npy_bytes(header["descr"], (self._rows, *shape)))
        row = _row_bytes(header)
        part.seek(skip * row, os.SEEK_CUR)
        left = take * row
        while left:
            data = part.read(min(left, 1 << 20))
            if not data:
                raise ValueError("the file is cut short")
            self._handle.write(data)
            left -= len(data)

    def _append_json(self, values: Any, skip: int, take: int) -> None:
        columns = values if isinstance(values, dict) else {"": values}
        if self._is_first(sorted(columns)):
            self._columns = {name: [] for name in columns}
            self._values = self._columns if isinstance(values, dict) else self._columns[""]
        for name, column in columns.items():
            self._columns[name].extend(column[skip : skip + take])


def _short(header: Any) -> str:
    text = header.decode("utf-8", "replace").strip() if isinstance(header, bytes) else str(header)
    return text if len(text) <= 100 else text[:100] + "..."


def _records(handle: IO[bytes], kind: str) -> Iterator[bytes]:
    """Yield the records of a file, each with one newline. A quoted field of a .csv may hold newlines."""
    quoted = kind in WITH_HEADER
    kept = b""
    for line in handle:
        kept += line
        if quoted and kept.count(b'"') % 2:
            continue
        if kept.strip():
            yield kept.rstrip(b"\r\n") + b"\n"
        kept = b""
    if kept:
        raise ValueError("a quoted field does not end")


def _read_json(path: str) -> Any:
    with open(path, "rb") as handle:
        return json.loads(handle.read().decode("utf-8"))


def _length(values: Any) -> int:
    """Return the rows of a list, or of an object of columns of the same length. Raises ValueError."""
    if isinstance(values, list):
        return len(values)
    if isinstance(values, dict) and "cumulative" in values:
        raise ValueError("it is a cumulative form, which hpc_agent.experiment_kit.series.join folds")
    columns: List[Any] = list(values.values()) if isinstance(values, dict) else []
    lengths = {len(column) for column in columns if isinstance(column, list)}
    if len(lengths) != 1 or not all(isinstance(column, list) for column in columns):
        raise ValueError("it is neither a list of rows nor an object of columns of the same length")
    return lengths.pop()


def _npy_header(handle: IO[bytes]) -> Dict[str, Any]:
    """Read the header of an .npy file. Raises ValueError for what is no array of plain rows."""
    start = handle.read(8)
    if start[:6] != _MAGIC:
        raise ValueError("it is no .npy file")
    form, size = ("<H", 2) if start[6] == 1 else ("<I", 4)
    (length,) = struct.unpack(form, handle.read(size))
    header: Dict[str, Any] = ast.literal_eval(handle.read(length).decode("utf-8"))
    if not header["shape"] or (header["fortran_order"] and len(header["shape"]) > 1) or "O" in str(header["descr"]):
        raise ValueError("it is no array of rows: shape %s, type %s" % (header["shape"], header["descr"]))
    return header


def _row_bytes(header: Dict[str, Any]) -> int:
    return _bytes_of(header["descr"], header["shape"][1:])


def _bytes_of(descr: Any, shape: Sequence[int]) -> int:
    """Return the bytes of values: "<f8", "|S3", "<U5" (four for a character), "<M8[ns]", or a list of fields."""
    if shape:
        return shape[0] * _bytes_of(descr, shape[1:])
    if isinstance(descr, list):
        return sum(_bytes_of(kind, shape[0] if shape else ()) for _, kind, *shape in descr)
    found = re.match(r"[<>|=]?([a-zA-Z])([0-9]+)", descr)
    if not found:
        raise ValueError("it has values of a type that is not known here: %s" % (descr,))
    return int(found.group(2)) * (4 if found.group(1) == "U" else 1)


def _npy_bytes(descr: Any, shape: Tuple[int, ...]) -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape})
    text += " " * (-(len(text) + 13) % 64) + "\n"
    return _MAGIC + b"\x02\x00" + struct.pack("<I", len(text)) + text.encode("utf-8")
