"""Registered functions in workers: each task ends as a process of its own does, and finds nothing that another has left."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from dispatched_element import Element

from hpc_agent.node.shared.processes import born
from hpc_agent.node.shared.task_environment import digest

HEAD = """
import os, random, signal, sys, threading, time
import slowlib
from hpc_agent.experiment_kit import register_run
with open(os.environ["IMPORTS"] + ".own", "a") as handle:
    handle.write("x")
{more}
@register_run
def train(x: int):
"""
KEYS = ("state", "cause", "exit_code", "signal", "message", "metrics", "log_tail")


def indented(body: str) -> str:
    return "\n".join("    " + line for line in body.strip("\n").split("\n")) + "\n"


def built(root: Path, body: str, isolate: str, count: int = 4, more: str = "", **document) -> Element:
    element = Element(root / isolate)
    return element.build(indented(body), count, HEAD.replace("{more}", more), isolate=isolate, **document)


def own_imports(element: Element) -> int:
    return len(Path(str(element.imports) + ".own").read_text())


def metrics(element: Element, count: int = 4) -> list[dict]:
    return [element.record(task)["metrics"] for task in range(count)]


@pytest.mark.parametrize(
    ("isolate", "processes", "imports", "own"),
    [("warm", 1, 1, 1), ("fork", 4, 1, 1), ("exec", 4, 4, 4)],
)
def test_what_the_tasks_of_a_run_share(tmp_path, isolate, processes, imports, own):
    body = """
print("task", x)
return {"x": x, "pid": os.getpid(), "group": os.getpgid(0)}
"""
    element = built(tmp_path, body, isolate)
    assert element.run() == 0, element.said
    found = metrics(element)
    assert [one["x"] for one in found] == [0, 1, 2, 3]
    assert [log(element, task) for task in range(4)] == [f"task {task}\n" for task in range(4)]
    assert len({one["pid"] for one in found}) == processes
    assert (element.imported(), own_imports(element)) == (imports, own)
    if isolate != "exec":
        assert all(one["pid"] == one["group"] for one in found)
    assert not any(born(int(one["pid"])) for one in found)


def log(element: Element, task: int) -> str:
    """What the task has printed, without what the library has."""
    return element.log(task).replace("a library that talks\n", "").replace(str(element.root), "ROOT")


def ends(element: Element, count: int) -> list[dict]:
    """How the tasks ended, without the paths and process ids of this element."""
    found = []
    for task in range(count):
        record = element.record(task)
        text = str({key: record.get(key) for key in KEYS}).replace("a library that talks\\n", "") + log(element, task)
        found.append(re.sub(r"\b[0-9]{4,}\b|repeated [0-9]+", "N", text.replace(str(element.root), "ROOT")))
    return found


ENDINGS = {
    "exits": """
import ctypes
ways = [
    lambda: os._exit(7), lambda: sys.exit("the reason"), lambda: sys.exit(5), lambda: sys.exit(None), lambda: sys.exit(260),
    lambda: sys.exit(-1), lambda: exec("raise SystemExit((1, 2))"), lambda: sys.exit(True), lambda: os._exit(0),
    lambda: None,
]
print("begin")
return ways[x]()
""",
    "signals": """
import ctypes
ways = [
    lambda: ctypes.string_at(0), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os.abort(),
    lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: signal.raise_signal(signal.SIGINT), lambda: 3,
    lambda: os.killpg(0, signal.SIGKILL), lambda: signal.alarm(1) or time.sleep(5), lambda: {"a": float("nan")},
]
print("begin")
return ways[x]()
""",
    "exceptions": """
def deep(n):
    return deep(n + 1) + 1
def chained():
    try:
        {}["key"]
    except KeyError as error:
        raise RuntimeError("because") from error
def hooked():
    sys.excepthook = lambda kind, value, trace: print("hooked", kind, value, file=sys.stderr)
    raise ValueError("seen")
def broken_hook():
    sys.excepthook = lambda *_: 1 / 0
    raise ValueError("seen")
def memory():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return len(bytearray(1 << 31))
class Odd(Exception):
    def __str__(self):
        raise ValueError
def odd():
    raise Odd
def syntax():
    exec("a b")
ways = [chained, hooked, memory, broken_hook, lambda: deep(0), odd, syntax, lambda: "text", lambda: {"z": 1}]
return ways[x]()
""",
    "returned": """
ways = [
    lambda: {"nested": {"a": 1}, "list": [1, 2], "text": "word", "yes": True, "none": None, "inf": float("inf")},
    lambda: 1.5, lambda: {}, lambda: [1], lambda: {1: 1, "1": 2}, lambda: {"big": 1 << 70},
    lambda: {"a": list(range(20000))}, lambda: {"a" * 5000: "b" * 5000000},
]
return ways[x]()
""",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", list(ENDINGS))
def test_a_task_ends_as_a_process_of_its_own(tmp_path, name):
    count = {"exits": 10, "signals": 9, "exceptions": 9, "returned": 8}[name]
    found = {}
    for isolate in ("exec", "fork", "warm"):
        element = built(tmp_path, ENDINGS[name], isolate, count)
        element.run()
        found[isolate] = ends(element, count)
    assert found["fork"] == found["exec"]
    assert found["warm"] == found["exec"]


STATE = """
import asyncio, contextlib, decimal, gc, locale, logging, subprocess, tempfile, warnings
def seen():
    hidden = ("HPC_", "X", "RESULT_DIR", "PWD", "SHLVL", "OLDPWD", "_")
    return {
        "environ": {n: v for n, v in sorted(os.environ.items()) if not n.startswith(hidden)},
        "cwd": os.getcwd(), "argv": sys.argv, "path": sorted(set(sys.path)), "umask": oct(os.umask(0o22)), "n": len(FILLED),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGCHLD)],
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "streams": [type(s).__name__ for s in (sys.stdin, sys.stdout, sys.stderr)], "count": COUNT,
        "threads": threading.active_count(), "warnings": [str(f[:2]) for f in warnings.filters], "gc": gc.isenabled(),
        "hooks": [str(h).split(" at ")[0] for h in (sys.excepthook, threading.excepthook)], "trace": str(sys.gettrace()),
        "limit": sys.getrecursionlimit(), "log": [logging.getLogger().level, len(logging.getLogger().handlers)],
        "timer": signal.getitimer(signal.ITIMER_REAL)[0], "generator": GENERATOR.random(), "print": print.__name__,
        "stdin": sys.stdin.read(), "open": len([d for d in os.listdir("/proc/self/fd") if int(d) < 3]),
        "priority": os.getpriority(os.PRIO_PROCESS, 0), "main": sys.modules["__main__"].__file__, "name": __name__,
        "group": os.getpgid(0) == os.getpid(), "loop": asyncio.new_event_loop().close() is None,
        "precision": decimal.getcontext().prec, "locale": locale.setlocale(locale.LC_ALL),
        "switch": sys.getswitchinterval(), "digits": getattr(sys, "get_int_max_str_digits", int)(),
        "made": hasattr(sys.modules[__name__], "MADE"), "cache": gc.get_threshold(), "cwdfile": os.path.exists("left"),
    }
os.umask(0o22)
import json
with open(os.environ["IMPORTS"] + ".%d" % x, "w") as handle:
    json.dump(seen(), handle, sort_keys=True)
warnings.warn("each task is warned")
if x % 2:
    return {"x": x}
global COUNT, MADE
def change_all():
    os.environ["NEW"] = "1"; os.environ["LANG"] = "xx"; os.environ.pop("PYTHONHASHSEED"); del os.environ["IMPORTS"]
    os.chdir("/"); sys.argv.append("more"); sys.path.insert(0, "/odd"); os.umask(0o77)
    signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    random.seed(3); sys.stdout = open(os.devnull, "w"); sys.stderr = sys.stdout; sys.stdin = None
    warnings.simplefilter("error"); gc.disable(); gc.set_threshold(1); sys.setrecursionlimit(5000)
    sys.excepthook = threading.excepthook = lambda *_: None; sys.settrace(lambda *_: None)
    decimal.getcontext().prec = 3; locale.setlocale(locale.LC_ALL, "C"); sys.setswitchinterval(1)
    getattr(sys, "set_int_max_str_digits", int)(0)
    logging.basicConfig(level=5); signal.setitimer(signal.ITIMER_REAL, 600); __builtins__["print"] = len
change_all()
COUNT += 1; MADE = 1
return {"x": x}
"""


@pytest.mark.timeout(120)
def test_a_task_finds_nothing_that_another_has_left(tmp_path):
    found, texts = {}, {}
    more = "FILLED, COUNT, GENERATOR = [], 0, random.Random(5)"
    for isolate in ("exec", "fork", "warm"):
        element = built(tmp_path, STATE, isolate, 5, more)
        assert element.run() == 0, element.said
        read = [Path(f"{element.imports}.{task}").read_text() for task in range(5)]
        texts[isolate] = [re.sub("/proc/.*?/fd", "", text.replace(str(element.root), "ROOT")) for text in read]
        found[isolate] = [log(element, task) for task in range(5)]
    assert texts["warm"][0] == texts["exec"][0]
    assert [text == texts["warm"][0] for text in texts["warm"]] == [True] * 5, texts["warm"]
    assert texts["fork"] == texts["exec"]
    assert found["warm"] == found["exec"] == found["fork"]
    assert "each task is warned" in found["warm"][4]


NO_PIPE = """
import os, sys
REAL, LEFT = os.pipe, 2
def pipe():
    global LEFT
    LEFT -= sys._getframe(1).f_code.co_name == "_begin"
    if LEFT == 0:
        LEFT = 99
        raise OSError(24, "Too many open files")
    return REAL()
os.pipe = pipe
"""


@pytest.mark.timeout(90)
def test_a_task_that_cannot_be_started_has_no_metrics_of_the_one_before(tmp_path, monkeypatch):
    element = built(tmp_path, "return {'x': x}", "warm", 3, results={"metrics_file": "metrics.json"})
    element.write(tmp_path / "steps" / "sitecustomize.py", NO_PIPE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "steps"))
    assert element.run() == 1
    records = [element.record(task) for task in range(3)]
    assert [record["state"] for record in records] == ["complete", "failed", "complete"]
    assert (records[1]["exit_code"], records[1].get("result_dir"), records[2]["metrics"]) == (127, None, {"x": 2})


LOGGERS = """
import logging
log = logging.getLogger("train.loop")
print(len(log.handlers), log.level, log.propagate, len(log.filters), log.isEnabledFor(10), logging.root.manager.disable)
log.addHandler(logging.StreamHandler())
log.addFilter(lambda row: True)
log.setLevel(10)
log.propagate = False
log.debug("task %d", x)
logging.disable(30)
return {"x": x}
"""


@pytest.mark.timeout(90)
def test_what_a_task_has_set_in_loggers_is_not_there_in_the_next_one(tmp_path):
    element = built(tmp_path, LOGGERS, "warm", 3)
    assert element.run() == 0, element.said
    assert [log(element, task) for task in range(3)] == [f"0 0 True 0 False 0\ntask {task}\n" for task in range(3)]


LEFT_BEHIND = {
    "a-list": ("FILLED.append(x)", "len(FILLED)", 1),
    "a-module": ("__import__('lazily')", "'lazily' in sys.modules", True),
    "a-thread": ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "threading.active_count()", 2),
    "a-child": ("__import__('subprocess').Popen(['sleep', '60'])", "0", 0),
    "an-orphan": ("os.system('sleep 60 & sleep 0.05')", "0", 0),
    "a-limit": ("__import__('resource').setrlimit(4, (0, 0))", "0", 0),
    "an-open-file": (
        "globals().update(LEFT=open(os.environ['RESULT_DIR'] + '/left', 'w')); LEFT.write('whole')",
        "0",
        0,
    ),
    "an-end": ("__import__('atexit').register(print, 'at the end')", "0", 0),
    "a-folder": (
        "globals().update(LEFT=__import__('tempfile').TemporaryDirectory(dir=os.environ['HOME_OF_TEST']))",
        "0",
        0,
    ),
    "memory": ("globals().update(LEFT=0); slowlib.LEFT = bytearray(100 << 20)", "0", 0),
    "no-stdout": ("sys.stdout.close()", "0", 0),
    "no-stdin": ("os.close(0)", "os.path.exists('/proc/self/fd/0')", False),
    "no-descriptors": ("os.closerange(3, 1000)", "0", 0),
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", list(LEFT_BEHIND))
def test_a_worker_with_something_left_in_it_is_replaced(tmp_path, name):
    statement, value, expected = LEFT_BEHIND[name]
    element = Element(tmp_path / "warm")
    element.env["HOME_OF_TEST"] = str(tmp_path)
    element.write(element.work / "lazily.py", "VALUE = 1\n")
    body = f"    {statement}\n    return {{'value': int({value}), 'pid': os.getpid()}}\n"
    element.build(body, 3, HEAD.replace("{more}", "FILLED = []"), isolate="warm")
    assert element.run() == 0, element.said
    found = metrics(element, 3)
    assert [one["value"] for one in found] == [int(expected)] * 3
    assert len({one["pid"] for one in found}) == 3
    assert own_imports(element) == 1
    if name == "an-end":
        assert [element.log(task) for task in range(3)] == ["at the end\n"] * 3
    if name == "an-open-file":
        place = Path(element.folder.path)
        assert [(place / element.record(task)["result_dir"] / "left").read_text() for task in range(3)] == ["whole"] * 3
    if name == "a-folder":
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["warm"]
    if name in ("a-child", "an-orphan"):
        end = time.monotonic() + 20
        while _sleeping(element) and time.monotonic() < end:
            time.sleep(0.1)
        assert not _sleeping(element)


def _sleeping(element: Element) -> bool:
    """Return True while a process runs that was started by a task of this element."""
    mark = f"HPC_RUN_DIR={element.folder.path}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_the_memory_and_time_of_a_task_are_its_own(tmp_path):
    body = """
import zlib
if x == 1:
    part = bytearray(60 << 20)
    end = time.process_time() + 0.5
    while time.process_time() < end:
        zlib.crc32(part[:1000])
return {"pid": os.getpid()}
"""
    element = built(tmp_path, body, "warm", 4)
    assert element.run() == 0, element.said
    records = [element.record(task) for task in range(4)]
    assert len({record["metrics"]["pid"] for record in records}) == 1
    assert records[1]["max_rss_mb"] > 60
    assert all(record["max_rss_mb"] < records[1]["max_rss_mb"] - 40 for record in (records[0], records[2], records[3]))
    assert records[1]["cpu_seconds"] >= 0.5
    assert all(record["cpu_seconds"] < 0.4 for record in (records[0], records[2], records[3]))


def test_random_numbers_are_those_of_a_new_process(tmp_path):
    body = 'return {"plain": random.random(), "own": OWN.random()}'
    for isolate, seed in (("warm", ""), ("fork", ""), ("warm", "random.seed(7)"), ("fork", "random.seed(7)")):
        element = built(tmp_path / (seed or "none"), body, isolate, 4, f"OWN = random.Random(1)\n{seed}")
        assert element.run() == 0, element.said
        assert len({one["plain"] for one in metrics(element)}) == (1 if seed else 4)
        assert len({one["own"] for one in metrics(element)}) == 1
        if seed:
            assert metrics(element)[0]["plain"] == random.Random(7).random()


def test_a_cli_that_was_edited_is_run_whole_by_each_task(tmp_path):
    element = built(tmp_path, 'return {"x": x, "pid": os.getpid()}', "warm")
    cli = element.work / ".hpc" / "cli.py"
    element.write(
        cli, cli.read_text().replace('if __name__ == "__main__":', 'if __name__ == "__main__":\n    print("mine")')
    )
    assert element.run() == 0, element.said
    assert [element.log(task) for task in range(4)] == ["mine\n"] * 4
    assert (element.imported(), own_imports(element)) == (1, 4)
    assert "cli.py was changed" in element.said


VALUES = """
import functools, types, collections
class Plain:
    count = 0
    def __init__(self):
        self.inner = {"deep": [1, 2]}
@functools.lru_cache(maxsize=None)
def cached():
    CALLS.append(1)
    return object()
def default(add, into=[]):
    into.append(add)
    return len(into)
CALLS, OBJECT, SPACE, NESTED = [], Plain(), types.SimpleNamespace(a=1), {"a": {"b": [(1, 2), {3}]}}
NUMBER, TEXT, PAIR = 1, "text", (1, "two")
"""
CHANGES = {
    "nothing": ("0", True),
    "a-name": ("globals().update(NUMBER=2, NEW=1)", True),
    "an-attribute": ("setattr(OBJECT, 'more', 1)", False),
    "an-inner-list": ("OBJECT.inner['deep'].append(3)", False),
    "a-namespace": ("setattr(SPACE, 'a', 2)", False),
    "a-nested-dict": ("NESTED['a'].update(b=0)", False),
    "a-class": ("setattr(Plain, 'count', 1)", False),
    "a-default": ("default(1)", False),
    "a-cache": ("(cached(), CALLS.clear())", True),
    "an-item": ("NESTED['a']['b'].__setitem__(0, 1)", False),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", list(CHANGES))
def test_a_value_that_was_changed_in_place_is_not_handed_on(tmp_path, name):
    statement, is_kept = CHANGES[name]
    body = f"""
seen = repr((Plain.count, vars(OBJECT), SPACE, NESTED, NUMBER, "NEW" in globals(), default.__defaults__, cached.cache_info()))
{statement}
print(seen)
return {{"pid": os.getpid()}}
"""
    element = built(tmp_path, body, "warm", 3, VALUES)
    assert element.run() == 0, element.said
    assert len({element.log(task) for task in range(3)}) == 1
    assert len({one["pid"] for one in metrics(element, 3)}) == (1 if is_kept else 3)


def test_where_a_change_could_not_be_seen_each_task_has_a_worker(tmp_path):
    more = "import array; TABLE = array.array('i', [0])"
    element = built(tmp_path, 'TABLE[0] += 1\nreturn {"first": TABLE[0]}', "warm", 3, more)
    assert element.run() == 0, element.said
    assert metrics(element, 3) == [{"first": 1}] * 3
    assert own_imports(element) == 1
    assert element.said.count("each task has a worker of its own: a task could change train.TABLE unseen") == 1


ROWS = "TASKS = [{'x': i} for i in range(6000)]\n"


def test_a_long_table_of_tasks_does_not_end_workers(tmp_path):
    element = built(tmp_path, 'return {"pid": os.getpid()}', "warm", 3)
    tasks = Path(element.work, ".hpc", "tasks.py")
    tasks.write_text(ROWS + tasks.read_text())
    assert element.run() == 0, element.said
    assert len({one["pid"] for one in metrics(element, 3)}) == 1


@pytest.mark.parametrize("module", ["", "import tasks"])
def test_a_task_that_imports_the_table_of_tasks_finds_it_as_it_was(tmp_path, module):
    body = """
import importlib
import tasks
assert tasks is importlib.import_module("tasks") and tasks.__spec__.origin == tasks.__file__
first = dict(tasks.TASKS[0])
tasks.TASKS[0]["x"] += 1 + x
return {"first": first["x"], "pid": os.getpid()}
"""
    element = built(tmp_path, body, "warm", 3, module)
    tasks = Path(element.work, ".hpc", "tasks.py")
    tasks.write_text(ROWS.replace("6000", "6") + tasks.read_text())
    assert element.run() == 0, element.said
    found = metrics(element, 3)
    assert [one["first"] for one in found] == [0, 0, 0]
    assert len({one["pid"] for one in found}) == 3


TABLE = """
import random
SEEN = []
RANDOM = random.Random(3)
class Kind:
    def __init__(self, value):
        self.value = value
def add(value):
    SEEN.append(value)
    return len(SEEN)
"""
WAYS_TO_THE_TABLE = """
import importlib, importlib.util, inspect, pickle, pkgutil, runpy
from multiprocessing import get_context
def imported():
    import tasks
    return tasks.add(x)
def from_it():
    from tasks import add
    return add(x)
def imported_elsewhere():
    import helper_of_tasks
    return helper_of_tasks.add(x)
def among_the_modules():
    return sys.modules["tasks"].add(x)
def changed_there():
    module = sys.modules["tasks"]
    module.COUNT = getattr(module, "COUNT", 0) + 1
    return module.COUNT
def removed_there():
    del sys.modules["tasks"]
    return 0
def replaced_there():
    import types
    is_plain = isinstance(sys.modules["tasks"], types.ModuleType)
    sys.modules["tasks"] = types.SimpleNamespace()
    return is_plain
def imported_again():
    import tasks
    tasks.COUNT = 1
    del sys.modules["tasks"]
    import tasks as second
    return [second is tasks, hasattr(second, "COUNT"), second.add(x)]
def loaded_again():
    return sys.modules["__main__"].load_tasks().add(x)
def reloaded():
    import tasks
    tasks.add(x)
    return [importlib.reload(tasks) is tasks, tasks.add(x), tasks.__spec__.name]
def unpickled():
    kind = pickle.loads(b"ctasks\\nKind\\n.")
    return [pickle.loads(pickle.dumps(kind(x))).value, kind is sys.modules["tasks"].Kind]
def seen():
    module = sys.modules["tasks"]
    spec = importlib.util.find_spec("tasks")
    return [spec is module.__spec__, inspect.getsource(module)[:20], sorted(vars(module)), type(module).__name__]
def drawn():
    return sys.modules["tasks"].RANDOM.random()
def read_by_others():
    return [len(pkgutil.get_data("tasks", "tasks.py")), len(runpy.run_module("tasks")), len(sys.meta_path)]
def in_processes():
    import tasks
    with get_context("fork").Pool(1) as pool:
        return pool.map(tasks.add, [x, x])
ways = [
    imported, from_it, imported_elsewhere, among_the_modules, changed_there, removed_there, replaced_there, imported_again,
    loaded_again, reloaded, unpickled, seen, drawn, read_by_others, in_processes, lambda: "tasks" in sys.modules,
]
way = ways[x % len(ways)]
print(way.__name__, way())
return {"pid": os.getpid()}
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("more", ["", "import tasks", 'TASKS = sys.modules["tasks"]'], ids=["own", "imported", "seen"])
def test_a_task_finds_the_table_of_tasks_as_a_process_of_its_own(tmp_path, more):
    found, count = {}, 32
    for isolate in ("exec", "fork", "warm"):
        element = built(tmp_path, WAYS_TO_THE_TABLE, isolate, count, more)
        tasks = Path(element.work, ".hpc", "tasks.py")
        tasks.write_text(TABLE + tasks.read_text())
        element.write(element.work / "helper_of_tasks.py", "from tasks import add\n")
        assert element.run() == 0, element.said
        assert own_imports(element) == (count if isolate == "exec" else 1)
        found[isolate] = [element.log(task).replace("a library that talks\n", "") for task in range(count)]
    assert found["fork"] == found["exec"]
    assert found["warm"] == found["exec"]


def test_a_table_of_tasks_that_puts_something_else_in_its_place(tmp_path):
    body = """
module = sys.modules["tasks"]
module.count += 1
return {"count": module.count}
"""
    element = built(tmp_path, body, "warm", 3)
    tasks = Path(element.work, ".hpc", "tasks.py")
    tasks.write_text(f"{tasks.read_text()}import sys, types\nsys.modules['tasks'] = types.SimpleNamespace(count=0)\n")
    assert element.run() == 0, element.said
    assert metrics(element, 3) == [{"count": 1}] * 3
    assert "tasks.py puts something else in its own place" in element.said


def test_what_a_module_holds_of_the_table_of_tasks_is_found_as_it_was(tmp_path):
    element = built(tmp_path, "import kept\nreturn {'first': kept.CALLS[0](), 'pid': os.getpid()}", "warm", 3)
    tasks = Path(element.work, ".hpc", "tasks.py")
    lines = "import kept\nSEEN = []\ndef add():\n    SEEN.append(1)\n    return len(SEEN)\nkept.CALLS.append(add)\n"
    tasks.write_text(lines + tasks.read_text())
    element.write(element.work / "kept.py", "CALLS = []\n")
    assert element.run() == 0, element.said
    found = metrics(element, 3)
    assert [one["first"] for one in found] == [1, 1, 1]
    assert len({one["pid"] for one in found}) == 3


def test_a_task_that_replaces_a_module_ends_its_worker(tmp_path):
    body = """
import types
first = sys.modules["helper"].SEEN
sys.modules["helper"] = types.SimpleNamespace(SEEN="another")
return {"is_first": int(first == "y"), "pid": os.getpid()}
"""
    element = built(tmp_path, body, "warm", 3, "import helper")
    element.write(element.work / "helper.py", "SEEN = 'y'\n")
    assert element.run() == 0, element.said
    found = metrics(element, 3)
    assert [one["is_first"] for one in found] == [1, 1, 1]
    assert len({one["pid"] for one in found}) == 3


IMPORTS_OF_A_TASK = {
    "reads-a-parameter": 'SEEN = os.environ.get("X")',
    "reads-the-environment": 'SEEN = dict(os.environ).get("X")',
    "needs-a-parameter": 'SEEN = os.environ["X"]',
    "reads-the-folder": 'SEEN = os.environ.get("HPC_RESULT_DIR") and os.environ["X"]',
    "handles-a-signal": 'signal.signal(signal.SIGTERM, lambda *_: None); SEEN = os.environ.get("IMPORTS")',
    "opens-a-file": 'LOG = open(os.environ["IMPORTS"] + ".log", "a"); print("opened", file=LOG); SEEN = None',
    "has-a-thread": "threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start(); SEEN = None",
    "starts-a-program": 'os.system("true"); SEEN = None',
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("isolate", ["warm", "fork"])
@pytest.mark.parametrize("name", list(IMPORTS_OF_A_TASK))
def test_modules_that_only_a_task_can_import(tmp_path, name, isolate):
    body = """
if x == 0 and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
    os.kill(os.getpid(), signal.SIGTERM)
return {"x": x, "seen": int(SEEN or -1)} if str(SEEN).isdigit() else {"x": x}
"""
    element = built(tmp_path, body, isolate, 4, IMPORTS_OF_A_TASK[name])
    assert element.run() == 0, element.said
    expected = [{"x": task, "seen": task} if "reads" in name or "needs" in name else {"x": task} for task in range(4)]
    if "reads" in name or "needs" in name:
        expected[0]["seen"] = 0
    assert metrics(element) == expected
    assert element.imported() == 1
    assert own_imports(element) == 5  # in vain, and one a task
    if name == "opens-a-file":
        assert Path(f"{element.imports}.log").read_text() == "opened\n" * 5


def test_a_folder_that_a_module_changes_to_is_that_of_its_tasks(tmp_path):
    element = built(tmp_path, 'return {"there": int(os.getcwd().endswith("/.hpc"))}', "warm", 3, 'os.chdir(".hpc")')
    assert element.run() == 0, element.said
    assert metrics(element, 3) == [{"there": 1}] * 3
    assert own_imports(element) == 1


@pytest.mark.parametrize(
    "results", [{}, {"metrics_file": "metrics.json"}, {"aggregate_cmd": "cat results/*/metrics.json"}]
)
def test_metrics_have_a_file_beside_others_and_where_the_run_names_it(tmp_path, results):
    body = """
if x == 1:
    open(os.path.join(os.environ["HPC_RESULT_DIR"], "model"), "w").close()
if x == 2:
    open(os.path.join(os.environ["HPC_RESULT_DIR"], "metrics.json"), "w").write('{"by_hand": 2}')
    return None
return {"x": x}
"""
    element = built(tmp_path, body, "warm", 3, results=results)
    assert element.run() == 0, element.said
    assert metrics(element, 3) == [{"x": 0}, {"x": 1}, {"by_hand": 2}]
    place = Path(element.folder.path)
    folders = [place / str(element.record(task).get("result_dir")) for task in range(3)]
    assert (folders[1] / "metrics.json").read_text() == '{"x": 1}\n'
    if results:
        assert (folders[0] / "metrics.json").read_text() == '{"x": 0}\n'
    else:
        assert element.record(0).get("result_dir") is None


def test_a_signal_that_comes_between_two_tasks_fails_none(tmp_path):
    body = """
import subprocess
if x < 3:
    subprocess.run("(sleep 0.3; kill -TERM %d) > /dev/null 2>&1 &" % os.getpid(), shell=True, start_new_session=True)
return {"x": x}
"""
    element = built(tmp_path, body, "warm", 6)
    assert element.run() == 0, element.said
    assert [one["x"] for one in metrics(element, 6)] == list(range(6))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("isolate", ["warm", "fork"])
def test_processes_that_are_killed_at_any_moment_repeat_no_task(tmp_path, isolate):
    """Each begin of a task has a record of its own; a task that was begun once is complete, or failed by the signal."""
    body = """
with open(os.environ["IMPORTS"] + ".begun", "a") as handle:
    handle.write("%d\\n" % x)
time.sleep(0.003)
return {"x": x}
"""
    count, dice = 60, random.Random(7)
    element = built(tmp_path, body, isolate, count)
    process = element.start()
    killed = 0
    while process.poll() is None and killed < 10:
        time.sleep(dice.uniform(0.0, 0.2))
        victims = [pid for pid in _family(element) if pid != process.pid]
        if victims:
            try:
                os.kill(dice.choice(victims), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
    process.communicate(timeout=100)
    begun = [int(word) for word in Path(f"{element.imports}.begun").read_text().split()]
    assert len(begun) == len(set(begun))
    states = {task: element.record(task) for task in range(count)}
    for task, record in states.items():
        assert record["attempt"] == 1
        if record["state"] == "complete":
            assert record["metrics"] == {"x": task}
            assert task in begun
        else:
            assert (record["cause"], record["signal"]) == ("signal", 9)


def _family(element: Element) -> list[int]:
    """The processes of this element, its dispatcher included."""
    mark = f"HPC_RUN_DIR={element.folder.path}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() + b"\0":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.timeout(60)
def test_nothing_outlives_a_killed_dispatcher(tmp_path):
    body = """
open(os.environ["IMPORTS"] + ".here", "w").close()
time.sleep(1)
return {"x": x}
"""
    element = built(tmp_path, body, "warm", 4)
    process: subprocess.Popen = element.start()
    end = time.monotonic() + 30
    while not Path(f"{element.imports}.here").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while _family(element) and time.monotonic() < end:
        time.sleep(0.1)
    assert _family(element) == []


@pytest.mark.timeout(60)
def test_tasks_with_a_gpu_share_a_worker_that_is_no_fork(tmp_path):
    body = """
if x == 2:
    os.kill(os.getpid(), signal.SIGKILL)
return {"pid": os.getpid(), "device": int(os.environ["CUDA_VISIBLE_DEVICES"]), "parent": os.getppid()}
"""
    element = Element(tmp_path)
    element.env["CUDA_VISIBLE_DEVICES"] = "3"
    more = 'DEVICE = os.environ["CUDA_VISIBLE_DEVICES"]'  # a library reads it too
    element.build(indented(body), 5, HEAD.replace("{more}", more), isolate="warm", resources={"cpus": 1, "gpus": 1})
    process = element.start()
    element.said = "".join(process.communicate(timeout=50))
    records = [element.record(task) for task in range(5)]
    assert [record["state"] for record in records] == ["complete", "complete", "failed", "complete", "complete"]
    assert records[2]["signal"] == 9
    found = [record["metrics"] for record in records if record["state"] == "complete"]
    assert [one["device"] for one in found] == [3] * 4
    assert {one["parent"] for one in found} == {process.pid}
    assert [one["pid"] for one in found[:2]] != [one["pid"] for one in found[2:]]
    assert len({one["pid"] for one in found}) == 2
    assert element.imported() == 2


def test_functions_in_two_folders_have_modules_of_their_own(tmp_path):
    """Both import a module called ``shared``, each the one of its own folder."""
    element = Element(tmp_path)
    element.build('    return {"x": x}\n', 4, HEAD.replace("{more}", ""), isolate="warm")
    for name in ("one", "two"):
        code = "import slowlib, shared, os\n\ndef run(x, executor):\n    return {'where': shared.WHERE, 'pid': os.getpid()}\n"
        element.write(element.work / name / f"{name}.py", code)
        element.write(element.work / name / "shared.py", f"WHERE = {len(name) if name == 'one' else 30}\n")
    tasks = element.work / ".hpc/tasks.py"
    flags = "FLAGS = {'one/one.py:run': [], 'two/two.py:run': []}\n"
    resolve = "def resolve(i): return {'x': i, 'executor': 'one' if i % 2 else 'two'}\n"
    element.write(tasks, flags + "def total(): return 4\n" + resolve)
    parameters = [{"x": i, "executor": "one" if i % 2 else "two"} for i in range(4)]
    Path(element.folder.digests).write_bytes(b"".join(map(digest, parameters)))
    assert element.run() == 0, element.said
    found = metrics(element)
    assert [one["where"] for one in found] == [30, 3, 30, 3]
    assert found[1]["pid"] == found[3]["pid"]
    assert element.imported() == 1


@pytest.mark.timeout(90)
@pytest.mark.parametrize("isolate", ["warm", "fork"])
def test_slots_share_one_import(tmp_path, isolate):
    body = """
time.sleep(0.05)
return {"x": x, "pid": os.getpid(), "slot": int(os.environ["HPC_SLOT"])}
"""
    root = tmp_path / isolate
    element = Element(root)
    element.array = {"at_once": 2}
    element.build(indented(body), 12, HEAD.replace("{more}", ""), isolate=isolate)
    assert element.run() == 0, element.said
    found = metrics(element, 12)
    assert [one["x"] for one in found] == list(range(12))
    assert {one["slot"] for one in found} == {0, 1}
    assert len({one["pid"] for one in found}) == (2 if isolate == "warm" else 12)
    assert (element.imported(), own_imports(element)) == (1, 1)
    assert _family(element) == []


@pytest.mark.timeout(90)
@pytest.mark.parametrize("more", ["", 'SEEN = os.environ["X"]'], ids=["shared", "plain"])
def test_a_new_process_of_a_slot_goes_on_with_the_same_host(tmp_path, more):
    body = """
def slots_of(element):
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = open("/proc/%s/stat" % name).read().rpartition(")")[2].split()[1]
            if parent == element and "worker-host" not in open("/proc/%s/cmdline" % name).read():
                yield int(name)
        except OSError:  # a process of somebody else that ended meanwhile
            continue
with open(os.environ["IMPORTS"] + ".begun", "a") as handle:
    handle.write("%d\\n" % x)
if x in (3, 4):
    while not {"3", "4"} <= set(open(os.environ["IMPORTS"] + ".begun").read().split()):
        time.sleep(0.01)
    if x == 4:  # one of them alone: a second kill may find the next processes
        import subprocess
        slots = slots_of(open(os.environ["IMPORTS"] + ".element").read())
        # in a session of its own, for this process ends with its slot
        subprocess.Popen(["setsid", "sh", "-c", 'kill -9 "$@"', "sh", *map(str, slots)])
    time.sleep(30)
time.sleep(0.02)
return {"x": x}
"""
    element = Element(tmp_path)
    element.array = {"at_once": 2}
    element.build(indented(body), 10, HEAD.replace("{more}", more), isolate="warm")
    process = element.start()
    Path(f"{element.imports}.element").write_text(str(process.pid))
    said = "".join(process.communicate(timeout=80))
    states = [element.record(task)["state"] for task in range(10)]
    assert states == ["complete"] * 3 + ["failed"] * 2 + ["complete"] * 5, said
    begun = Path(f"{element.imports}.begun").read_text().split()
    assert sorted(map(int, begun)) == list(range(10))
    assert element.imported() == 1
    assert _family(element) == []
