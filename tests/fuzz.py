"""Odd calls of every verb, made from the schemas of the requests, and the judge of their answers.

    python tests/fuzz.py --seed 7 --calls 500          # in this process, in a folder of its own
    python tests/fuzz.py --seed 7 --first 120 --calls 1  # one call once more, with the calls before it that share its repo

Each line of stdout is one fault: the number of the call, what is wrong, argv and standard input. The last line counts.
No call can submit: every cluster that a verb with the effect SUBMIT sees is behind an ssh that refuses.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "hpc_agent"
CALL_LIMIT_SEC = 60
MEMORY_LIMIT = 2 << 30
FRESH_EVERY = 40  # calls that share one repo

TASKS = "def total():\n    return 3\n\ndef resolve(task_id):\n    return {'x': task_id}\n"
SCRIPT = """import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=int, default=0)
parser.add_argument("--output-file", default=os.devnull)
x = parser.parse_args().x
with open(os.environ.get("HPC_RESULT_DIR", ".") + "/metrics.json", "w") as file:
    json.dump({"y": x * 2.0}, file)
"""
SERIES = "def smooth(rows, window=3):\n    return [sum(rows[max(0, i - window):i + 1]) for i in range(len(rows))]\n"
EXECUTOR = 'python3 run.py --x "$X"'
REFUSED = '#!/bin/sh\necho "ssh: connect to host refused port 22: Connection refused" >&2\nexit 255\n'
NO_SCHEDULER = "#!/bin/sh\necho called >>{log}\necho refused >&2\nexit 1\n"

# Verbs that start interpreters for tasks.py, or answer from a cluster: their share of the calls is smaller.
SLOW = {
    "build-submit-spec", "campaign-driver", "campaign-replay", "check-axis", "compute-run-id", "dry-run-local",
    "resolve-submit-inputs", "submit", "submit-and-verify", "submit-flow-batch", "summarize-submit-plan",
    "validate-campaign", "validate-executor-signatures", "report", "export-crate", "verify-reproduction", "compare",
    "aggregate", "status", "failures", "logs", "monitor-flow", "watch", "run-story", "reconcile",
    "verify-aggregation-complete", "verify-submitted", "join-series", "list-in-flight", "demo", "find-prior-run",
    "plan-throughput", "recommend-partition",
}  # fmt: skip
NEVER_VALID = {"demo"}  # would run its tasks on this machine

ODD_TEXTS = [
    "", " ", "-", "--", "-1", "--spec", "a\nb", "x" * 5000, "../../x", "~no-such-user/x", "~", ".", "..", "%s%n",
    "{x}", "{0.__class__}", "$(touch pwned)", "`touch pwned`", "; touch pwned", "'", '"', "\\", "*", "é" * 40, "😀", "\u202egnp",
    "null", "true", "1e999", "NaN", "0x10", "1_000", "٣", "folder", "file.txt", "pipe", "loop", "gone", "socket", "deep.json",
    "binary.bin", "missing/file", "file.txt/x", "/dev/null", "/dev/full", "/proc/nothing/x", "folder/", "./run.py", "a/../../b", "\x7f",
    "\x1b[31m", "a,b,,c", ",", "[", "{", "[1,", '{"a":1}', "[]", "{}", "=", "a=b", "\t", "\r\n", "con\u0000"[:3], "٠" * 5000,
]  # fmt: skip
ODD_NUMBERS = [
    0, -1, 1, 2, -0.0, 0.5, -1.5, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), 10**30, 1e308, 5e-324, 10**400,
    float("inf"), float("nan"),
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


# ---------------------------------------------------------------- the folder in which calls are made
@dataclass
class Sandbox:
    """A repo with one run that has ended, a home, and clusters: ``open`` has the one of the run, ``closed`` none that answers."""

    root: Path
    run_id: str = "none-00000000"
    env: dict[str, str] = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        return self.root / "a" / "b" / "repo"

    def make(self) -> None:
        for name in ("home", "tmp", "bin", "scratch", "specs"):
            (self.root / name).mkdir()
        self._write_repo()
        (self.root / "empty").mkdir()
        self._stubs()
        local = {"scheduler": "local", "scratch": str(self.root / "scratch"), "min_poll_sec": 1, "local_cores": 2}
        refused = {"host": "refused", "scratch": "/scratch/x"}
        closed = {name: {"scheduler": name, **refused} for name in ("slurm", "sge")}
        odd = {"broken": {"scheduler": "slurmm"}, "bare": {}, "late": {**closed["slurm"], "python": "/none"}}
        for name, clusters in (
            ("open", {"local": local}),
            ("closed", {"local": {**local, **refused, "scheduler": "slurm"}}),
        ):
            (self.root / f"{name}.yaml").write_text(json.dumps({**clusters, **closed, **odd}))
        self.env = {
            "PATH": f"{self.root / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "HPC_CLUSTERS_CONFIG": str(self.root / "open.yaml"),
            "HPC_PROGRESS": "none",
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        sent = self._cli("submit", "--cluster", "local", "--executor", EXECUTOR, "--campaign-id", "sweep")
        self.run_id = sent["run_id"]
        watched = self._cli("monitor-flow", "--run-id", self.run_id, "--wall-clock-budget-sec", "120")
        assert watched["lifecycle_state"] == "complete", watched
        for name in ("a", "home"):
            shutil.copytree(self.root / name, self.root / "kept" / name, symlinks=True, copy_function=_copy)

    def _cli(self, *words: str) -> Any:
        command = [sys.executable, "-m", "hpc_agent", *words]
        done = subprocess.run(
            command, cwd=self.repo, env=self.env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)["data"]

    def _write_repo(self) -> None:
        repo = self.repo
        (repo / ".hpc").mkdir(parents=True)
        (repo / ".hpc" / "tasks.py").write_text(TASKS)
        (repo / "run.py").write_text(SCRIPT)
        (repo / "series.py").write_text(SERIES)
        (repo / "file.txt").write_text("text\n")
        (repo / "table.csv").write_text("x,y\n" + "".join(f"{i},{i * 2}\n" for i in range(30)))
        (repo / "deep.json").write_text("[" * 20000)
        (repo / "binary.bin").write_bytes(bytes(range(256)))
        (repo / "folder").mkdir()
        (repo / "folder" / "inner.txt").write_text("")
        (repo / "loop").symlink_to("loop")
        (repo / "gone").symlink_to("nothing-there")
        study = {
            "campaign_id": "study",
            "space": {"x": {"type": "float", "low": -1, "high": 1}},
            "metrics": [{"name": "y"}],
            "strategy": {"name": "random"},
            "submit": {"cluster": "slurm", "executor": EXECUTOR, "resources": {"mem_mb": 100, "walltime_sec": 60}},
        }
        (repo / ".hpc" / "campaigns" / "study").mkdir(parents=True)
        (repo / ".hpc" / "campaigns" / "study" / "manifest.json").write_text(json.dumps(study))

    def _stubs(self) -> None:
        """Put an ssh and rsync that refuse, and schedulers that only write down that they were called, first on the PATH."""
        for name in ("ssh", "rsync"):
            _script(self.root / "bin" / name, REFUSED)
        for name in ("sbatch", "qsub", "squeue", "sacct", "qstat", "scontrol", "sinfo", "scancel", "qdel"):
            _script(self.root / "bin" / name, NO_SCHEDULER.format(log=self.root / "scheduler.log"))
        (self.root / "bin" / "python3").symlink_to(sys.executable)

    def refresh(self) -> None:
        """Put repo and home back to what they were before the first odd call."""
        for name in ("a", "home"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            shutil.copytree(self.root / "kept" / name, self.root / name, symlinks=True, copy_function=_copy)
        os.mkfifo(self.repo / "pipe")


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _copy(source: str, target: str, *, follow_symlinks: bool = True) -> str:
    return shutil.copy2(source, target, follow_symlinks=follow_symlinks)


# ---------------------------------------------------------------- one call
@dataclass(frozen=True)
class Call:
    number: int
    argv: list[str]
    stdin: bytes
    folder: str = "repo"
    env: dict[str, str] = field(default_factory=dict)


class Generator:
    """Makes the call of a number: the same for the same seed."""

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        self.sandbox, self.seed = sandbox, seed
        self.catalogue = _catalogue()
        self.schemas = {
            name: json.loads((PACKAGE / "schemas" / f"{name}.input.json").read_text()) for name in self.catalogue
        }
        self.names = sorted(self.catalogue)
        self.weights = [1 if name in SLOW else 6 for name in self.names]
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
        names = [*body.get("properties", {}), *request]
        pick = self.random.random()
        if pick < 0.1 and request:
            request.pop(self.random.choice(list(request)))
        elif pick < 0.15 or not names:
            request[self.random.choice(["nothing", "", "\ud800", "a\0b", "run-id", "spec", "__class__"])] = self._odd()
        else:
            name = self.random.choice(names)
            inner = request.get(name)
            if isinstance(inner, dict) and inner and self._chance(0.7):
                inner[self.random.choice(list(inner))] = self._odd()
            elif isinstance(inner, list) and self._chance(0.5):
                inner.append(self._odd())
            else:
                request[name] = self._odd()

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
        return Call(number, [_as_argument(word) for word in words if word not in ("-h", "--help")], stdin)

    def _word(self, verb: str) -> str:
        if self._chance(0.02):
            return self.random.choice([*ODD_TEXTS, verb.upper(), verb[:-1], verb + "x", "builds", "\udcff"])
        return self.random.choice([verb, *self.catalogue[verb]["aliases"]])

    def _json(self, document: dict[str, Any]) -> bytes:
        text = json.dumps(document)
        if self._chance(0.1):
            cut = self.random.randint(0, len(text))
            text = self.random.choice(
                [text[:cut], text + text, text[:cut] + "\0" + text[cut:], "", "null", "[]", "1", '"x"', "[" * 30000, '{"a":' * 30000, "1" * 9000,
                 "\ufeff" + text, text[:-1] + ',"a":1,"a":2}', '{"ok": false, "error_code": 5}', '{"ok": false, "error_code": "x", "message": [1]}',
                 '{"ok": true, "data": {"spec": [1]}}', '{"ok": true, "data": {"run_id": {}}}', '{"ok": false, "error_code": "x", "remediation": 1, "details": 7, "field": []}']
            )  # fmt: skip
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
    from hpc_agent.contract.catalogue import catalogue_entry
    from hpc_agent.contract.primitive import load_all

    import msgspec

    return {name: msgspec.to_builtins(catalogue_entry(found)) for name, found in load_all().items()}


# ---------------------------------------------------------------- the judge
class Judge:
    """Says what is wrong with the answer of a call; an empty text when nothing is."""

    def __init__(self) -> None:
        from hpc_agent.errors import BY_CODE, EXIT_CODES

        self.by_code, self.exit_codes = BY_CODE, EXIT_CODES
        document = json.loads((PACKAGE / "schemas" / "envelope.json").read_text())
        self.envelope = jsonschema.Draft202012Validator(document)
        self.outcomes: Counter[str] = Counter()

    def fault(self, code: object, stdout: bytes, stderr: bytes) -> str:
        if stdout.count(b"\n") != 1 or not stdout.endswith(b"\n"):
            return f"stdout is not one line (exit {code}): {stdout[:300]!r} stderr {stderr[-800:]!r}"
        if b"Traceback (most recent" in stderr:
            return f"a traceback on stderr: {stderr[-1500:].decode(errors='replace')}"
        try:
            answer = json.loads(stdout)
        except ValueError as error:
            return f"stdout is not JSON: {error}: {stdout[:300]!r}"
        broken = next(self.envelope.iter_errors(answer), None)
        if broken:
            return f"no envelope: {broken.message}"
        if answer["ok"]:
            self.outcomes["ok"] += 1
            return "" if code == 0 else f"exit {code} for an answer that is ok"
        error_code, category = answer["error_code"], answer["category"]
        self.outcomes[error_code] += 1
        if error_code == "internal":
            return f"internal: {answer['message']}\n{answer.get('details', {}).get('traceback', '')}"
        if error_code not in self.by_code or self.by_code[error_code].category != category:
            return f"the error {error_code} of category {category} is not in the contract"
        if code != self.exit_codes[category]:
            return f"exit {code} for an error of category {category}"
        if not answer["message"].strip() or not answer["remediation"].strip():
            return f"an error without a message or a remedy: {answer}"
        return ""


# ---------------------------------------------------------------- calls in this process
class TookTooLong(BaseException):
    """A call did not end in time: no ``except Exception`` of the product takes it for an error."""


class Clock:
    """Time that passes at once where a verb sleeps: a watch of hours ends within a moment."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def awake(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += max(seconds, 0.01)


class Writes:
    """Notes what this process writes outside a folder."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.outside: list[str] = []
        self.cwd = self.root
        # sockets of ssh: their path must be short
        self.allowed = (self.root + "/", f"{tempfile.gettempdir()}/hpc-agent-{os.getuid()}/", "/dev/", "/proc/")
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            paths = [path] if writes else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2]) if event != "os.symlink" else [arguments[1]]
        elif event == "socket.connect":
            self.outside.append(f"connects to {arguments[1]!r}")
            return
        else:
            return
        for path in paths:
            if isinstance(path, int):
                continue
            full = os.path.normpath(os.path.join(self.cwd, os.fsdecode(path)))
            if not (full + "/").startswith(self.allowed):
                self.outside.append(f"{event} {full}")


def call_here(call: Call, sandbox: Sandbox, clock: Clock, capture: tuple[Any, Any, Any]) -> tuple[object, bytes, bytes]:
    """Make one call in this process: exit code, stdout and stderr, with what children of it wrote."""
    from hpc_agent.cli import main

    clock.ahead = 0.0
    os.environ.clear()
    os.environ.update({**sandbox.env, **call.env})
    tempfile.tempdir = None
    os.chdir(sandbox.repo if call.folder == "repo" else sandbox.root / "empty")
    given, out, err = capture
    for file in capture:
        file.seek(0)
        file.truncate()
    given.write(call.stdin)
    given.seek(0)
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(call.stdin))
    sys.stdout = open(1, "w", closefd=False, encoding="utf-8")
    sys.stderr = open(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
    signal.alarm(CALL_LIMIT_SEC)
    code: object = None
    try:
        code = main(list(call.argv))
    except TookTooLong as error:
        code = f"took longer than {CALL_LIMIT_SEC} s: {''.join(traceback.format_tb(error.__traceback__)[-6:])}"
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
    out.seek(0)
    err.seek(0)
    return code, out.read(), err.read()


def _too_long(number: int, frame: object) -> None:
    raise TookTooLong


def fuzz(root: Path, seed: int, numbers: range, report: Any, processes: bool = False) -> Counter[str]:
    """Make the calls; ``report`` gets a line a fault. Returns how the calls ended."""
    sandbox = Sandbox(root)
    sandbox.make()
    generator, judge = Generator(sandbox, seed), Judge()
    took: Counter[str] = Counter()
    from hpc_agent.cli import run
    from hpc_agent.world import World

    clock = Clock()
    run.World = lambda: World(now=clock.now, awake=clock.awake, sleep=clock.sleep)  # type: ignore[misc, assignment]
    signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    writes = Writes(root)
    kept = [os.dup(number) for number in (0, 1, 2)]
    capture = tuple(open(root / f"captured-{number}", "w+b") for number in (0, 1, 2))
    for number, file in enumerate(capture):
        os.dup2(file.fileno(), number)
    sys.setrecursionlimit(1000)
    begin = numbers.start - numbers.start % FRESH_EVERY
    try:
        for number in range(begin, numbers.stop, numbers.step):
            if number == begin or number % FRESH_EVERY < numbers.step:
                sandbox.refresh()
            call = generator.call(number)
            writes.cwd = str(sandbox.repo if call.folder == "repo" else root / "empty")
            (root / "current").write_text(f"{number} {call.argv}")  # is left when the process is killed
            begun = time.monotonic()
            code, stdout, stderr = (
                call_process(call, sandbox) if processes else call_here(call, sandbox, clock, capture)
            )
            took[call.argv[0]] += round((time.monotonic() - begun) * 1000)
            fault = judge.fault(code, stdout, stderr)
            if writes.outside:
                fault = f"{fault} writes outside its folder: {writes.outside[:3]}".strip()
                writes.outside.clear()
            if (sandbox.repo / "pwned").exists():
                fault = f"{fault} a value was run by a shell".strip()
            if fault and number >= numbers.start:
                shown = call.stdin[:2000].decode(errors="replace")
                facts = {"argv": call.argv, "stdin": shown, "env": call.env, "folder": call.folder}
                report({"call": number, "fault": fault, **facts})
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
    judge.outcomes.update({f"ms {verb}": spent for verb, spent in took.most_common(25)})
    return judge.outcomes


def call_process(call: Call, sandbox: Sandbox) -> tuple[object, bytes, bytes]:
    """Make one call as a process of its own."""
    command = [sys.executable, "-m", "hpc_agent", *call.argv]
    try:
        done = subprocess.run(
            command, cwd=sandbox.repo if call.folder == "repo" else sandbox.root / "empty", env={**sandbox.env, **call.env},
            input=call.stdin, capture_output=True, timeout=CALL_LIMIT_SEC, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return f"took longer than {CALL_LIMIT_SEC} s", error.stdout or b"", error.stderr or b""
    return done.returncode, done.stdout, done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--processes", action="store_true", help="each call is a process")
    parser.add_argument("--folder", type=Path, help="keep the sandbox here")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")

    def report(fault: dict[str, Any]) -> None:
        answers.write(json.dumps(fault) + "\n")
        answers.flush()

    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hpc-fuzz-", ignore_cleanup_errors=True))
        )
        folder.mkdir(exist_ok=True)
        numbers = range(options.first, options.first + options.calls)
        counts = fuzz(folder, options.seed, numbers, report, options.processes)
        os.chdir("/")
    report({"seed": options.seed, "calls": options.calls, "outcomes": counts})
    return 0


if __name__ == "__main__":
    assert stat.S_ISDIR(PACKAGE.stat().st_mode)
    sys.exit(main())
