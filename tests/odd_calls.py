"""Odd calls of every verb, made from the schemas of the requests: the same for the same seed and number."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from fuzz_sandbox import EXECUTOR, Sandbox

from hpc_agent.contract.catalogue import catalogue_entry
from hpc_agent.contract.primitive import load_all

SCHEMAS = Path(__file__).resolve().parents[1] / "src" / "hpc_agent" / "schemas"

# Verbs that start interpreters for tasks.py, or answer from a cluster: their share of the calls is smaller.
SLOW = {
    "build-submit-spec", "build-template", "capabilities", "campaign-driver",
    "campaign-replay", "clusters-add", "doctor", "check-axis", "compute-run-id", "dry-run-local",
    "resolve-submit-inputs", "submit", "submit-and-verify", "submit-flow-batch", "summarize-submit-plan",
    "validate-campaign", "validate-executor-signatures", "report", "export-crate", "verify-reproduction", "compare",
    "aggregate", "status", "failures", "logs", "monitor-flow", "watch", "run-story", "reconcile",
    "verify-aggregation-complete", "verify-submitted", "join-series", "list-in-flight", "demo", "find-prior-run",
    "plan-throughput", "recommend-partition",
}  # fmt: skip
WAITING = {"campaign-driver", "demo", "monitor-flow", "submit-and-verify", "verify-canary", "watch"}  # for a cluster
NEVER_VALID = {"demo"}  # would run its tasks on this machine

ODD_TEXTS = [
    "", " ", "-", "--", "-1", "--spec", "a\nb", "x" * 5000, "../../x", "~no-such-user/x", "~", ".", "..", "%s%n",
    "{x}", "{0.__class__}", "$(touch pwned)", "`touch pwned`", "; touch pwned", "'", '"', "\\", "*", "é" * 40, "😀", "\u202egnp",
    "null", "true", "1e999", "NaN", "0x10", "1_000", "٣", "folder", "file.txt", "pipe", "loop", "gone", "socket", "deep.json",
    "binary.bin", "missing/file", "file.txt/x", "/dev/null", "/dev/full", "/proc/nothing/x", "folder/", "./run.py", "a/../../b",
    "\x7f",
    "\x1b[31m", "a,b,,c", ",", "[", "{", "[1,", '{"a":1}', "[]", "{}", "=", "a=b", "\t", "\r\n", "٠" * 5000,
]  # fmt: skip
ODD_NUMBERS = [
    0, -1, 1, 2, -0.0, 0.5, -1.5, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), 10**30, 1e308, 5e-324, 10**400,
    float("inf"), float("nan"),
]  # fmt: skip
BROKEN_SPECS = [
    "", "null", "[]", "1", '"x"', "[" * 30000, '{"a":' * 30000, "1" * 9000, '{"ok": true, "data": {"spec": [1]}}',
    '{"ok": true, "data": {"run_id": {}}}', '{"ok": false, "error_code": 5}', '{"ok": false, "error_code": "x", "message": [1]}',
    '{"ok": false, "error_code": "x", "remediation": 1, "details": 7, "field": []}',
]  # fmt: skip
UNKNOWN_FLAGS = [
    "--nothing",
    "-x",
    "--spec2",
    "--experiment_dir",
    "--",
    "---",
    "-",
    "--run_id=x",
    "--cluster2",
    "-v",
    "--=",
    "--no-",
]


@dataclass(frozen=True)
class Call:
    number: int
    verb: str
    argv: list[str]
    stdin: bytes
    folder: str = "repo"
    env: dict[str, str] = field(default_factory=dict)


class Generator:
    """Makes the call of a number: the same for the same seed."""

    def __init__(self, sandbox: Sandbox, seed: int, real_time: bool = False) -> None:
        self.sandbox, self.seed = sandbox, seed
        self.catalogue = _catalogue()
        self.schemas = {name: json.loads((SCHEMAS / f"{name}.input.json").read_text()) for name in self.catalogue}
        self.names = sorted(self.catalogue)
        self.weights = [1 if name in SLOW else 6 for name in self.names]
        if real_time:
            self.weights = [0 if name in WAITING else 1 for name in self.names]
        self.random = random.Random()

    def call(self, number: int) -> Call:
        self.random = random.Random(f"{self.seed}:{number}")
        verb = self.random.choices(self.names, self.weights)[0]
        request = self._request(verb)
        if verb in NEVER_VALID:
            request["no_such_field"] = 1
        call = self._delivered(number, verb, request)
        surroundings: dict[str, str] = {}
        closed = {"SUBMIT"} & {effect.upper() for effect in self.catalogue[verb]["effects"]}
        surroundings["HPC_CLUSTERS_CONFIG"] = str(self.sandbox.root / ("closed.yaml" if closed else "open.yaml"))
        folder = "empty" if self._chance(0.05) else "repo"
        if self._chance(0.03):
            odd = self.random.choice(
                ["/proc/nothing", "folder", "binary.bin", "deep.json", "file.txt", "loop", "pipe", "/dev/null"]
            )
            surroundings[self.random.choice(["HPC_CLUSTERS_CONFIG", "HPC_JOURNAL_DIR"])] = str(self.sandbox.repo / odd)
        return replace(call, env=surroundings, folder=folder)

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    # ------------------------------------------------ the request
    def _request(self, verb: str) -> dict[str, Any]:
        document = self.schemas[verb]
        definitions = document["$defs"]
        body = definitions[document["$ref"].rpartition("/")[2]]
        request = self._object(body, definitions)
        if self._chance(0.4):  # an example works, here or in another repo: one odd field gets further
            request = json.loads(json.dumps(self.catalogue[verb]["example"]))
            request.update({"executor": EXECUTOR} if "executor" in request else {})
        for _ in range(self.random.choice([0, 0, 0, 1, 1, 1, 2])):
            self._spoil(request, body)
        return request

    def _object(self, body: dict[str, Any], definitions: dict[str, Any], depth: int = 0) -> dict[str, Any]:
        required = body.get("required", [])
        share = self.random.choice([0.0, 0.1, 0.3])
        return {
            name: self._value(name, facts, definitions, depth)
            for name, facts in body.get("properties", {}).items()
            if name in required or self._chance(share)
        }

    def _value(self, name: str, facts: dict[str, Any], definitions: dict[str, Any], depth: int) -> Any:
        if "$ref" in facts and depth < 4:
            return self._object(definitions[facts["$ref"].rpartition("/")[2]], definitions, depth + 1)
        if "anyOf" in facts:
            return self._value(name, self.random.choice(facts["anyOf"]), definitions, depth)
        if "enum" in facts:
            return self.random.choice(facts["enum"])
        if "const" in facts:
            return facts["const"]
        kind = facts.get("type", "null")
        kind = self.random.choice(kind) if isinstance(kind, list) else kind
        if kind == "array":
            return [
                self._value(name, facts.get("items") or {"type": "string"}, definitions, depth + 1)
                for _ in range(self.random.randint(0, 2))
            ]
        if kind == "object":
            return (
                {"x": self._value("x", extra, definitions, depth + 1)}
                if (extra := facts.get("additionalProperties")) and isinstance(extra, dict)
                else {"x": 1}
            )
        if kind == "string":
            return self._text(name)
        plain = {
            "boolean": self._chance(0.5),
            "integer": self.random.choice([0, 1, 2, 3, 60]),
            "number": self.random.choice([0.5, 1, 2.0]),
        }
        return plain.get(kind)

    def _text(self, name: str) -> str:
        known = {
            "run_id": [self.sandbox.run_id, self.sandbox.run_id, "none-00000000"],
            "cluster": ["local", "slurm", "sge", "broken", "bare", "nowhere"],
            "campaign_id": ["study", "study", "sweep", "new"],
            "experiment_dir": [".", ".", "folder"],
            "executor": [EXECUTOR, "python3 nothing.py", "true"],
        }
        for key, values in known.items():
            if name.startswith(key) or name.rstrip("s") == key:
                return self.random.choice(values)
        return self.random.choice(
            [
                "x",
                "y",
                "run.py",
                "series.py",
                "table.csv",
                "file.txt",
                "folder",
                "run:main",
                "series.py:smooth",
                "smooth",
                "out",
            ]
        )

    def _odd(self, depth: int = 0) -> Any:
        """Return a value that hardly any field takes."""
        pick = self.random.random()
        if pick < 0.45:
            return self.random.choice([*ODD_TEXTS, "a\0b", "\ud800", "x\udcff"])
        if pick < 0.75:
            return self.random.choice(ODD_NUMBERS)
        if pick < 0.85 or depth > 2:
            return self.random.choice([None, True, False, [], {}, [[]], [None], {"": ""}, {"\ud800": 1}, {"a": None}])
        if pick < 0.9:
            value: Any = 1
            for _ in range(self.random.choice([30, 200, 900])):
                value = [value] if self._chance(0.5) else {"a": value}
            return value
        return [self._odd(depth + 1) for _ in range(self.random.randint(1, 3))]

    def _spoil(self, request: dict[str, Any], body: dict[str, Any]) -> None:
        """Change one field: to an odd value of its own type, which passes the schema, or to any odd value."""
        fields = body.get("properties", {})
        names = [*fields, *request]
        pick = self.random.random()
        if pick < 0.07 and request:
            request.pop(self.random.choice(list(request)))
        elif pick < 0.12 or not names:
            request[self.random.choice(["nothing", "", "\ud800", "a\0b", "run-id", "spec", "__class__"])] = self._odd()
        else:
            name = self.random.choice(names)
            inner = request.get(name)
            if isinstance(inner, dict) and inner and self._chance(0.7):
                key = self.random.choice(list(inner))
                inner[key] = self._odd_like(inner[key]) if self._chance(0.6) else self._odd()
            elif isinstance(inner, list) and self._chance(0.5):
                inner.append(self._odd_like(inner[0]) if inner and self._chance(0.6) else self._odd())
            elif self._chance(0.6):
                request[name] = self._odd_for(fields.get(name, {}))
            else:
                request[name] = self._odd()

    def _odd_for(self, facts: dict[str, Any]) -> Any:
        """Return an odd value of the type that a field has."""
        options = [option for option in facts.get("anyOf", [facts]) if option.get("type") != "null"]
        kind = self.random.choice(options).get("type") if options else None
        return {
            "string": lambda: self.random.choice(ODD_TEXTS),
            "integer": lambda: self.random.choice([n for n in ODD_NUMBERS if isinstance(n, int)]),
            "number": lambda: self.random.choice(ODD_NUMBERS),
            "array": lambda: [self.random.choice(ODD_TEXTS) for _ in range(self.random.randint(0, 3))],
            "object": lambda: {self.random.choice(ODD_TEXTS): self._odd() for _ in range(self.random.randint(0, 3))},
            "boolean": lambda: self._chance(0.5),
        }.get(kind, self._odd)()

    def _odd_like(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.random.choice(ODD_TEXTS)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.random.choice(ODD_NUMBERS)
        return self._odd(1)

    # ------------------------------------------------ the command line
    def _delivered(self, number: int, verb: str, request: dict[str, Any]) -> Call:
        words = [self._word(verb)]
        way = self.random.choices(["flags", "file", "stdin", "both"], [45, 15, 25, 15])[0]
        stdin = b""
        in_flags = dict(request) if way == "flags" else {}
        if way == "both":
            in_flags = {name: value for name, value in request.items() if self._chance(0.5)}
        if way != "flags":
            text = self._json({name: value for name, value in request.items() if name not in in_flags})
            if way == "file":
                path = self.sandbox.root / "specs" / f"{number % 10}.json"
                path.write_bytes(text)
                words += ["--spec", str(path)]
            else:
                words += ["--spec", "-"]
                stdin = text
        words += [word for name, value in in_flags.items() for word in self._flag(verb, name, value)]
        for _ in range(self.random.choice([0, 0, 0, 0, 0, 0, 0, 1, 2])):
            words.insert(self.random.randint(1, len(words)), self.random.choice([*UNKNOWN_FLAGS, *ODD_TEXTS]))
        if self._chance(0.03):
            words += ["--spec", self.random.choice([text for text in ODD_TEXTS if text != "pipe"])]
        if self._chance(0.03):
            words.append(self.random.choice([flag["flag"] for flag in self.catalogue[verb]["flags"]] or ["--spec"]))
        return Call(number, verb, [_as_argument(word) for word in words if word not in ("-h", "--help")], stdin)

    def _word(self, verb: str) -> str:
        if self._chance(0.02):
            return self.random.choice([*ODD_TEXTS, verb.upper(), verb[:-1], verb + "x", "builds", "\udcff"])
        return self.random.choice([verb, *self.catalogue[verb]["aliases"]])

    def _json(self, document: dict[str, Any]) -> bytes:
        text = json.dumps(document)
        if self._chance(0.1):
            cut = self.random.randint(0, len(text))
            text = self.random.choice(
                [
                    *BROKEN_SPECS,
                    text[:cut],
                    text + text,
                    text[:cut] + "\0" + text[cut:],
                    "\ufeff" + text,
                    text[:-1] + ',"a":1,"a":2}',
                ]
            )
            if self._chance(0.2):
                return text.encode("utf-16", "surrogatepass")
        return text.encode("utf-8", "surrogatepass")

    def _flag(self, verb: str, name: str, value: Any) -> Iterator[str]:
        flag = next((flag for flag in self.catalogue[verb]["flags"] if flag["path"] == [name]), None)
        if flag is None and isinstance(value, dict):  # the fields of a struct are flags of their own
            for inner, each in value.items():
                if isinstance(inner, str):
                    yield from self._flag(verb, inner, each) if inner != name else ()
            return
        spelled = "--" + name.replace("_", "-")
        if isinstance(value, bool) and self._chance(0.9):
            yield spelled if value else f"--no-{spelled[2:]}"
            return
        text = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, list) and self._chance(0.5):
            text = ",".join(map(str, value))
        yield from [f"{spelled}={text}"] if self._chance(0.4) else [spelled, text]


def _as_argument(word: str) -> str:
    """Return a word as a process can receive it: no NUL, at most 100 kB, no half of a pair."""
    data = word.replace("\0", "").encode(
        "utf-8", "surrogateescape" if "\udcff" in word and "\ud800" not in word else "replace"
    )
    return os.fsdecode(data[:100_000])


def _catalogue() -> dict[str, Any]:
    return {name: msgspec.to_builtins(catalogue_entry(found)) for name, found in load_all().items()}
