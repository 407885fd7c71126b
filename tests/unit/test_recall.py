"""``recall``: what is read of an interview, the filters, the rollups, and the index that is never the truth."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.metric_names import best_end
from hpc_agent.ops.memory import index
from hpc_agent.ops.memory.index import cache_folder, find_interviews
from hpc_agent.ops.memory.interviews import Facts, Values, read_facts
from hpc_agent.ops.memory.recall import RecallRequest, recall
from hpc_agent.ops.memory.rollup import generator_rollup, quantiles
from hpc_agent.ops.memory.run_starts import Wanted
from hpc_agent.world import World


def write(folder: Path, **fields: object) -> Path:
    """Write an interview into a folder; ``at`` is the time of its tasks. It is an old file: the index may trust it."""
    made = {
        "at": fields.pop("at", "2026-01-31T12:00:00Z"),
        "cmd_sha": "0" * 64,
        "total_tasks": fields.get("task_count", 6),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "interview.json"
    path.write_text(json.dumps({"goal": "Which horizon?", "task_count": 6, "_materialized": made, **fields}))
    return path


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "TICK_NS", 0)
    home = tmp_path / "home"
    home.mkdir()
    return World(cwd=tmp_path, env={"HOME": str(home)}, now=lambda: 1_800_000_000.0)


def ask(world: World, *root: Path, **filters: object):
    return recall(RecallRequest(root=[str(one) for one in root], **filters), world)


def names(answer) -> list[str]:
    return [Path(one.campaign_dir).name for one in answer.campaigns]


def test_filters_and_order(tmp_path, world):
    root = tmp_path / "root"
    write(
        root / "old",
        at="2024-01-01T00:00:00+01:00",
        task_kind="ridge",
        produced_by={"kind": "human", "operator": "ann"},
    )
    write(root / "deep" / "new", at="2026-06-01T00:00:00Z", task_kind="ridge", cluster_target={"cluster": "hoffman2"})
    write(
        root / "mid",
        at="2025-06-01T00:00:00Z",
        task_kind="boost",
        notes="Try Horizon five",
        transcript=[{"text": "seven"}],
    )
    write(root / "never", at=None, task_kind="ridge")
    assert names(ask(world, root)) == ["new", "mid", "old", "never"]
    assert names(ask(world, root, task_kind="ridge")) == ["new", "old", "never"]
    assert names(ask(world, root, operator="ann")) == ["old"]
    assert names(ask(world, root, cluster="hoffman2")) == ["new"]
    assert names(ask(world, root, words="SEVEN horizon")) == ["mid"]
    assert names(ask(world, root, words="horizon eight")) == []
    since = ask(world, root, since="2025-06-01")
    assert names(since) == ["new", "mid"]
    assert since.notes == ["1 interview has no time, so --since leaves it out"]
    assert names(ask(world, root, since="600d")) == ["new", "mid"]  # before the world's now, 2027-01-15
    limited = ask(world, root, limit=1)
    assert (limited.showing, limited.total_matching, limited.rollup["count"]) == (1, 4, 4)
    assert limited.rollup["task_kind_distribution"] == {"ridge": 3, "boost": 1}
    assert limited.rollup["clusters"] == {"unstated": 3, "hoffman2": 1}
    assert limited.rollup["materialized_at"] == {
        "earliest": "2023-12-31T23:00:00Z", "latest": "2026-06-01T00:00:00Z", "unstated": 1,
    }  # fmt: skip
    assert "none of 4 interviews fits; their kinds: ridge, boost" in ask(world, root, task_kind="rigde").notes
    for text in ("yesterday", ""):
        with pytest.raises(SpecInvalid) as error:
            ask(world, root, since=text)
        assert error.value.field == "since"


def test_the_roots(tmp_path, world):
    """--root wins over the configuration; without both the request is not valid; a root within another counts once."""
    here, there = tmp_path / "here", tmp_path / "there"
    write(here / "a")
    write(here / "inner" / "b")
    write(there / "c")
    with pytest.raises(SpecInvalid, match="nobody said where to look") as error:
        ask(world)
    assert error.value.field == "root"
    config = world.home / ".hpc-agent" / "config.json"
    config.parent.mkdir()
    gone = tmp_path / "unmounted"
    config.write_text(json.dumps({"experiment_roots": [str(here), str(here / "inner"), str(gone)]}))
    answer = ask(world)
    assert sorted(names(answer)) == ["a", "b"]
    assert [(one.code, one.detail) for one in answer.partial_errors] == [("root_missing", f"there is no folder {gone}")]
    assert names(ask(world, there)) == ["c"]
    for broken in ("[1", '{"experiment_roots": "x"}', '{"experiment_roots": []}', "[]", "{}"):
        config.write_text(broken)
        with pytest.raises(SpecInvalid) as error:
            ask(world)
        assert "hpc-agent recall --root ." in error.value.remediation
    with pytest.raises(SpecInvalid, match="there is no folder"):
        ask(world, gone)


SPACE = {"lr": {"type": "float", "low": 0.1, "high": 1}, "depth": {"type": "int", "low": 2, "high": 8}}


def campaign(
    repo: Path, name: str, direction: str = "minimize", values: tuple[float, ...] = (), **fields: object
) -> None:
    """Write a campaign of the metric ``y`` with a complete trial for each value, whose lr is the value."""
    document = {"campaign_id": name, "space": SPACE, "metrics": [{"name": "y", "direction": direction}],
                "submit": {"cluster": "local", "executor": "./fit"}, "created_at": "2026-03-01T00:00:00Z"}  # fmt: skip
    folder = repo / ".hpc" / "campaigns" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({**document, **fields}))
    events: list[dict] = []
    for trial, value in enumerate(values):
        params = {"lr": value, "depth": 2}
        events += [
            {"event": "ask", "at": 1.0, "trial": trial, "iteration": 0, "params": params, "attrs": {}, "origin": ""},
            {"event": "tell", "at": 2.0, "trial": trial, "state": "complete", "values": {"y": value}, "run_id": "r"},
        ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_repo_without_an_interview_is_found_by_its_campaigns(tmp_path, world):
    root = tmp_path / "root"
    write(root / "told", task_kind="ridge")
    campaign(root / "bare", "first", created_at="2026-02-01T00:00:00Z", goal="Which LR?")
    (root / "empty" / ".hpc").mkdir(parents=True)
    for _ in range(2):  # from the files, then from the index
        answer = ask(world, root, include_generator_stats=True)
        assert names(answer) == ["bare", "told"]
        bare = answer.campaigns[0]
        assert (bare.no_interview, bare.goal, bare.campaigns) == (True, "Which LR?", ["first"])
        assert (bare.materialized_at, bare.cluster_target) == ("2026-02-01T00:00:00Z", {"cluster": "local"})
        envelopes = answer.rollup["generator_rollup"]["by_kind"]["unstated"]["param_envelopes"]
        assert envelopes == {"lr": {"low": 0.1, "high": 1.0}, "depth": {"low": 2, "high": 8}}
        assert "1 of 2 repos have no interview.json: their kind of task is not known" in answer.notes
    assert names(ask(world, root, words="which first")) == ["bare"]
    assert names(ask(world, root, cluster="local", since="2026-01-31")) == ["bare"]
    kind = ask(world, root, task_kind="ridge")
    assert (names(kind), kind.notes) == (["told"], ["1 repo has no interview.json, so --task-kind leaves it out"])
    campaign(root / "bare", "second")
    assert ask(world, root).campaigns[0].materialized_at == "2026-03-01T00:00:00Z"
    campaign(root / "bare", "second", goal="Another goal")
    assert ask(world, root).campaigns[0].goal == "Another goal"
    write(root / "bare", goal="now told")
    assert {one.goal for one in ask(world, root).campaigns if not one.no_interview} == {"Which horizon?", "now told"}
    (root / "bare" / "interview.json").unlink()
    (root / "bare" / ".hpc" / "campaigns" / "second" / "manifest.json").write_text("{")
    assert ask(world, root).campaigns[0].goal == "Which LR?"
    (root / "bare" / ".hpc" / "campaigns" / "first" / "manifest.json").write_text("[]")
    for _ in range(2):
        answer = ask(world, root)
        assert names(answer) == ["told"]
        assert "manifest" in answer.partial_errors[0].detail


def test_the_direction_is_heeded(tmp_path, world):
    """A direction that is asked for ranks the points, and stands in the command; by itself it chooses among metrics."""
    root = tmp_path / "root"
    campaign(root / "down", "down", "minimize", (0.5, 0.9, 0.1), stop_criteria={"metric": "y", "direction": "minimize"})
    campaign(root / "up", "up", "maximize", (0.4, 0.8))
    told = {start.campaign_id: start for start in reversed(ask(world, root).starts)}
    assert {name: (start.direction, start.value) for name, start in told.items()} == {
        "down": ("minimize", 0.1), "up": ("maximize", 0.8),
    }  # fmt: skip
    for words, best, other in (("max maximize", 0.9, 0.8), ("min minimize", 0.1, 0.4)):
        for direction in words.split():
            answer = ask(world, root, metric="y", direction=direction)
            long = words.split()[1]
            assert next(start.value for start in answer.starts if start.campaign_id == "down") == best
            assert next(start.value for start in answer.starts if start.campaign_id == "up") == other
            assert {start.direction for start in answer.starts} == {long}
            assert f'"direction": "{long}"' in answer.next_command
            assert {"minimize", "maximize"} - {long} & set(answer.next_command.replace('"', " ").split()) == set()
    alone = ask(world, root, direction="max")
    assert [start.value for start in alone.starts] == [0.8, 0.4]
    assert "down minimizes y, and is left out: --metric y turns it round" in alone.notes
    assert '"low": 2, "high": 8' in ask(world, root).next_command, "bounds of integers are integers"
    limits = [{"until": "2026-01-01T00:00:00Z", "budget": {}, "stop_criteria": {}}]
    metrics = [{"name": "z", "direction": "minimize"}, {"name": "y", "direction": "maximize"}]
    campaign(
        root / "up", "up", values=(0.4, 0.8), earlier_limits=limits, metrics=metrics, stop_criteria={"metric": "y"}
    )
    last = ask(world, root / "up")
    assert last.starts[0].metric == "y", "the metric of the criteria comes first"
    assert "earlier-limits" not in last.next_command
    assert ask(world, root / "up", metric="x").notes[-1] == "no start has the metric x: there are some for y"


def table(repo: Path, run_id: str, rows: list[tuple[dict, dict]], **fields: object) -> None:
    """Write the table of a run: its parameters and metrics, by row."""
    document = {
        "run_id": run_id,
        "metrics": sorted(rows[0][1]),
        "rows": [
            {"kwargs": kwargs, "metrics": {name: {"mean": value, "count": 2} for name, value in metrics.items()}}
            for kwargs, metrics in rows
        ],
        **fields,
    }
    folder = repo / "results" / run_id
    folder.mkdir(parents=True)
    (folder / "table.json").write_text(json.dumps(document))


def test_a_start_of_a_table_over_seeds_has_its_first_seed(tmp_path, world):
    root = tmp_path / "root"
    write(root / "a", task_generator={"kind": "x", "params": {"axes": {"fold": [5, 6]}}})
    rows = [({"lr": lr}, {"loss": lr}) for lr in (0.5, 0.1)]
    table(root / "a", "run", rows, over=["fold", "seed"], over_first={"seed": 3})
    start = ask(world, root).starts[0]
    assert (start.params, start.value, start.repeats) == ({"lr": 0.1, "seed": 3, "fold": 5}, 0.1, 2)


def test_a_metric_without_a_direction_is_told_once(tmp_path, world):
    root = tmp_path / "root"
    write(root / "a")
    table(root / "a", "run", [({"lr": 0.5}, {"gap": 1.0, "logloss": 2.0})])
    assert ask(world, root, metric="gap").notes == [
        "run measured gap: --direction says if its lowest or its highest value is the best"
    ]
    assert ask(world, root, metric="gone").notes == ["no start has the metric gone: there are some for logloss"]
    assert (ask(world, root).starts[0].metric, ask(world, root).starts[0].direction) == ("logloss", "minimize")


def test_words_find_the_names_of_a_folder_and_its_campaigns(tmp_path, world):
    """Also of a folder with an interview, and of a campaign that is newer than the index."""
    root = tmp_path / "root"
    write(root / "Sweep-A")
    write(root / "b")
    assert names(ask(world, root, words="sweep horizon")) == ["Sweep-A"]
    campaign(root / "b", "hs-2")
    assert names(ask(world, root, words="hs")) == ["b"]
    assert names(ask(world, root, words="hs sweep")) == []


def test_one_kind_with_two_directions_is_said(tmp_path, world):
    campaign(tmp_path / "root", "a", "minimize", (0.5,))
    campaign(tmp_path / "root", "b", "maximize", (0.5,))
    answer = ask(world, tmp_path / "root")
    assert "y was minimized and maximized: --metric y --direction choose" in answer.notes


def test_the_next_command_begins_where_the_start_is_from(tmp_path, world):
    """Another repo may have a script of the same name: its values would stand beside those of the start."""
    root = tmp_path / "root"
    submit = {"cluster": "local", "executor": "python3 train.py"}
    campaign(root / "a", "a", values=(0.5,), submit=submit)
    campaign(root / "b", "b", values=(0.9,), submit=submit)
    for name, code in (("a", "loss = x * x"), ("b", "loss = 1000 + x")):
        (root / name / "train.py").write_text(code)
    place = f" --experiment-dir {root / 'a'} --seed-from a "
    assert place in ask(world, root).next_command

    def in_b():
        return ask(World(cwd=root / "b", env=world.env, now=world.now), root).next_command

    assert place in in_b()
    (root / "b" / "train.py").write_text("loss = x * x")
    assert "--experiment-dir" not in in_b(), "the same program: this repo may go on"
    assert f" --seed-from {root / 'a'}:a " in in_b()
    for name, horizon in (("a", "ridge.py"), ("b", "other.py")):  # what .hpc/cli.py starts stands in tasks.py
        (root / name / ".hpc" / "cli.py").write_text("")
        (root / name / ".hpc" / "tasks.py").write_text(f"FLAGS = {{{horizon!r}: []}}")
        (root / name / horizon).write_text("")
    campaign(root / "a", "a", values=(0.5,), submit={"cluster": "local", "executor": "python3 .hpc/cli.py"})
    assert place in in_b()
    for name in "ab":
        (root / name / ".hpc" / "tasks.py").write_text("FLAGS = {'ridge.py': []}")
    assert place in in_b(), "b has no ridge.py"
    (root / "b" / "ridge.py").write_text("")
    assert "--experiment-dir" not in in_b()


ENDS = st.sampled_from([None, "minimize", "maximize"])


@given(
    st.dictionaries(st.sampled_from(["loss", "accuracy", "y", "z"]), ENDS),
    st.sampled_from([None, "loss", "accuracy", "y"]),
    ENDS | st.sampled_from(["auto", "min", "max"]),
)
def test_the_chosen_metric_is_one_that_was_asked_for(metrics, metric, direction):
    chosen = Wanted(metric, direction).choose(metrics)
    asked = best_end(direction)
    if chosen is None:
        assert metric not in metrics or (asked is None and best_end(metrics[metric], metric) is None)
        return
    name, long = chosen
    assert name in metrics
    assert metric in (None, name)
    assert asked in (None, best_end(long))
    if asked is None:
        assert best_end(long) == best_end(metrics[name], name)


@pytest.mark.parametrize("with_index", [True, False])
def test_every_change_is_noticed(tmp_path, world, with_index, monkeypatch):
    if not with_index:
        monkeypatch.setattr("hpc_agent.ops.memory.recall.cache_folder", lambda *_: None)
    root = tmp_path / "root"
    paths = {name: write(root / name) for name in "abc"}
    assert sorted(names(ask(world, root))) == ["a", "b", "c"]
    write(root / "a", goal="Another question")  # in place, other bytes
    paths["b"].unlink()
    write(root / "new" / "d")
    (root / "c").rename(root / "moved")
    answer = ask(world, root)
    assert sorted(names(answer)) == ["a", "d", "moved"]
    assert {one.goal for one in answer.campaigns if one.campaign_dir.endswith("/a")} == {"Another question"}
    before = paths["a"].stat()
    paths["a"].write_text(paths["a"].read_text().replace("Another", "Seventh"))  # as many bytes, the old time
    os.utime(paths["a"], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "Seventh question" in {one.goal for one in ask(world, root).campaigns}
    assert len(ask(world, root, words="seventh").campaigns) == 1


def test_a_young_file_is_read_again(tmp_path, world, monkeypatch):
    """Two changes within a tick of the file system's clock look the same: what is that young is not trusted."""
    monkeypatch.setattr(index, "TICK_NS", 10**18)
    write(tmp_path / "root" / "a", goal="one")
    ask(world, tmp_path / "root")
    cache = cache_folder(world.env, world.home)
    known = msgspec.msgpack.decode(next(cache.iterdir()).read_bytes(), type=dict[str, index.Folder])
    assert [(folder.stamp, folder.seen) for folder in known.values() if folder.facts] == [("", "")]


def test_an_unchanged_interview_is_not_read_again(tmp_path, world, monkeypatch):
    root = tmp_path / "root"
    write(root / "a")
    first = ask(world, root, words="horizon")
    monkeypatch.setattr(index, "read_facts", lambda *_: pytest.fail("it was read again"))
    monkeypatch.setattr(index, "_listing", lambda _: pytest.fail("a folder was listed again"))
    assert ask(world, root, words="horizon") == first


def rewrite(path: Path, **fields: object) -> None:
    """Change fields of every folder in an index."""
    known = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, index.Folder])
    path.write_bytes(msgspec.msgpack.encode({name: folder._replace(**fields) for name, folder in known.items()}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database at all" * 100),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096)),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(msgspec.msgpack.encode(["theirs"])),
        lambda path: path.write_bytes(msgspec.msgpack.encode({"/": ["stamp", ["name"], 5]})),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: rewrite(path, facts=b"{"),
        lambda path: rewrite(path, facts=b"\0"),
        lambda path: rewrite(path, facts=b"null"),
    ],
)
def test_a_torn_or_foreign_index_is_built_anew(tmp_path, world, damage):
    root = tmp_path / "root"
    for number in range(300):
        write(root / f"c{number:03}")
    first = ask(world, root, words="horizon")
    [path] = cache_folder(world.env, world.home).iterdir()
    damage(path)
    assert ask(world, root, words="horizon") == first
    assert ask(world, root, words="horizon") == first


def test_an_index_that_cannot_be_written_is_no_error(tmp_path, world):
    root = tmp_path / "root"
    write(root / "a")
    assert names(ask(world, root)) == ["a"]
    [path] = cache_folder(world.env, world.home).iterdir()
    path.unlink()
    path.mkdir()  # os.replace cannot take its place
    write(root / "b")
    for cache in (path.parent, tmp_path / "nowhere", None):
        found, problems = find_interviews(root, cache)
        assert (len(found), problems) == (2, [])
    assert [one.name for one in path.parent.iterdir()] == [path.name], "no temporary file stays"


def test_one_name_that_is_no_utf8_does_not_keep_the_others_out_of_the_index(tmp_path, world):
    root = tmp_path / "root"
    write(root / "deep" / "a", axes={"seed": [2**80, 1]})
    os.mkdir(os.fsencode(root) + b"/\xff")
    first = ask(world, root)
    [path] = cache_folder(world.env, world.home).iterdir()
    assert msgspec.msgpack.decode(path.read_bytes()).keys() == {f"{root}/deep", f"{root}/deep/a"}
    assert ask(world, root) == first


def test_two_processes_at_once(tmp_path, world):
    root = tmp_path / "root"
    for number in range(200):
        write(root / f"c{number:03}")
    command = [sys.executable, "-m", "hpc_agent", "recall", "--root", str(root), "--limit", "0"]
    env = {**os.environ, "HOME": str(world.home), "XDG_CACHE_HOME": str(world.home / ".cache")}
    for _ in range(2):
        both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        answers = [json.loads(one.communicate(timeout=60)[0]) for one in both]
        assert [one["data"]["total_matching"] for one in answers] == [200] * 4
        assert all(one["data"] == answers[0]["data"] and "partial_errors" not in one for one in answers)


def test_what_cannot_be_read_is_named(tmp_path, world):
    root = tmp_path / "root"
    write(root / "good")
    for name, text in {
        "torn": '{"goal": "x', "list": "[]", "foreign": '{"questions": []}', "typed": '{"goal": "g", "task_kind": 5}',
        "generator": '{"goal": "g", "task_generator": []}', "time": '{"goal": "g", "_materialized": {"at": "soon"}}',
        "lone": '{"goal": "\\ud800"}', "said": '{"goal": "g", "transcript": 5}',
    }.items():  # fmt: skip
        (root / name).mkdir()
        (root / name / "interview.json").write_text(text)
    (root / "folder" / "interview.json").mkdir(parents=True)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "interview.json")  # a read of it would never end
    (root / "bytes").mkdir()
    (root / "bytes" / "interview.json").write_bytes(b"\xff\xfe{}")
    os.mkdir(os.fsencode(root) + b"/\xff")
    for _ in range(2):  # from the files, then from the index
        answer = ask(world, root)
        assert names(answer) == ["good"]
        assert answer.unreadable == len(answer.partial_errors) == 12
        told = " ".join(one.detail for one in answer.partial_errors)
        assert all(
            f"/{name}/interview.json: " in told
            for name in ("torn", "list", "foreign", "typed", "generator", "time", "lone", "said", "folder", "pipe")
        )
        assert "'\\udcff'" in told or "\\udcff" in told


def test_many_problems_are_counted(tmp_path, world):
    root = tmp_path / "root"
    for number in range(50):
        (root / f"c{number}").mkdir(parents=True)
        (root / f"c{number}" / "interview.json").write_text("{")
    answer = ask(world, root)
    assert answer.unreadable == 50
    assert len(answer.partial_errors) == 21
    assert answer.partial_errors[-1].detail == "and 30 more"


def test_where_nobody_looks(tmp_path, world):
    """Hidden folders, outputs of a campaign, links, and the copies that hpc-agent itself makes on a cluster."""
    root = tmp_path / "root"
    write(root / "a")
    for inside in (".git", "results/run", "logs", "node_modules/x"):
        write(root / "a" / inside)
    for part in ("snapshots/0123", "runs/r-1/work"):
        write(root / "hpc-agent" / "a-01234567" / part)
    write(root / "results" / "kept")  # not below a campaign: a folder like any other
    (root / "link").symlink_to(root / "a")
    (root / "loop").symlink_to(root)
    assert sorted(names(ask(world, root))) == ["a", "kept"]


def test_an_interview_of_the_published_version(tmp_path, world):
    write(
        tmp_path / "root" / "a", produced_by={"kind": "agent", "session_sha": "abc", "at": "2025"}, budget={"max_jobs": 3},
        cluster_target={"cluster": "discovery", "profile": "p", "constraint": None}, abort_if={"metric": "loss"},
        entry_point={"kind": "shell_command", "data_axis_hint": "bounded_halo", "frozen_configs": []},
        task_generator={"kind": "numeric_logspace", "params": {"param": "lr", "low": 1e-4, "high": 0.1, "n": 4, "base": 10}},
    )  # fmt: skip
    answer = ask(world, tmp_path / "root", include_generator_stats=True, include_runtime=True)
    [one] = answer.campaigns
    assert (one.produced_by_kind, one.data_axes, one.cluster_target["profile"]) == ("agent", ["bounded_halo"], "p")
    assert answer.rollup["generator_rollup"] == {
        "by_kind": {"numeric_logspace": {"count": 1, "param_envelopes": {"lr": {"low": 1e-4, "high": 0.1}}}}
    }
    assert answer.rollup["runtime_rollup"] == {
        "walltime_per_task_sec": {"n_samples": 0}, "failure_rate": None, "tasks_ended": 0, "total_task_samples": 0,
        "campaigns_with_no_runtime": 1,
    }  # fmt: skip


def test_runtimes_come_from_samples_and_journal(tmp_path, world):
    root = tmp_path / "root"
    for number in range(3):
        write(root / f"c{number}")
    rows = [
        {"task": 0, "seconds": 2.0},
        {"task": 1, "seconds": 4.0},
        {"task": 2, "class": "walltime", "seconds_at_least": 9.0},
    ]
    samples = root / "c0" / ".hpc" / "runtimes" / "local.json"
    samples.parent.mkdir(parents=True)
    samples.write_text(
        json.dumps({"version": 1, "cluster": "local", "runs": [{"run_id": "r", "at": "", "rows": rows}]})
    )
    (samples.parent / "old.cluster.json").write_text('{"samples": [1, 2]}')
    from hpc_agent.state.journal import Journal
    from hpc_agent.state.repo_files import RepoLayout

    journal = Journal(world, RepoLayout(root / "c1"))
    journal.append("r", "submitting", cluster="local", total_tasks=10)
    journal.append("r", "status", lifecycle_state="in_flight", counts={"complete": 1, "failed": 0, "running": 9})
    journal.append("r", "status", lifecycle_state="failed", counts={"complete": 7, "failed": 3})
    journal.append("r", "aggregated", waves=[0], output="x")
    told = ask(world, root, include_runtime=True).rollup["runtime_rollup"]
    assert told["walltime_per_task_sec"] == {"p50": 3.0, "p95": 3.9, "min": 2.0, "max": 4.0, "n_samples": 2}
    assert (told["failure_rate"], told["tasks_ended"], told["campaigns_with_no_runtime"]) == (0.3, 10, 2)


def test_observed_values_by_generator(tmp_path, world):
    root = tmp_path / "root"
    write(root / "a", task_generator={"kind": "cartesian_product", "params": {"axes": {"h": [1, 5], "m": ["x", True]}}})
    write(root / "b", task_generator={"kind": "cartesian_product", "params": {"axes": {"h": [5.0, 25], "m": ["y"]}}})
    write(
        root / "c",
        task_generator={
            "kind": "items_x_seeds",
            "params": {"items": [{"alpha": 0.1}, {"alpha": [1, 2]}], "seeds": [0, 1]},
        },
    )
    write(root / "d", task_generator={"kind": "sobol", "params": {"ranges": {"depth": {"low": 2, "high": 8}}, "n": 4}})
    write(root / "e", axes={"alpha": {"logspace": [1e-4, 10, 20]}, "n": {"range": [0, 10, 3]}, "s": {"range": [5, 5]}})
    write(root / "f", task_generator={"kind": "enumerated", "params": {"items": [{"lr": i / 7} for i in range(400)]}})
    answer = ask(world, root, include_generator_stats=True)
    told = answer.rollup["generator_rollup"]["by_kind"]
    assert told["cartesian_product"] == {"count": 2, "axis_value_unions": {"h": [1, 5, 25], "m": [True, "x", "y"]}}
    assert told["items_x_seeds"]["axis_value_unions"] == {"seed": [0, 1], "alpha": [0.1, "[1, 2]"]}
    assert told["sobol"]["param_envelopes"] == {"depth": {"low": 2, "high": 8}}
    assert told["axes"]["param_envelopes"] == {"alpha": {"low": 1e-4, "high": 10}, "n": {"low": 0, "high": 9}}
    assert told["enumerated"]["param_envelopes"] == {"lr": {"low": 0.0, "high": 399 / 7}}
    [long] = [one.task_generator for one in answer.campaigns if one.campaign_dir.endswith("/f")]
    assert long == {"kind": "enumerated", "parameters": ["lr"], "truncated": True}


SCALARS = st.one_of(
    st.integers(-100, 100),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.booleans(),
    st.text(max_size=3),
)


@given(st.lists(st.lists(SCALARS, min_size=1), min_size=1))
def test_a_merged_range_is_the_range_of_all(parts):
    """Low and high are those of all numbers, and a union without ``more`` is the set of all values."""
    merged = Values()
    for part in parts:
        values = Values()
        for value in part:
            values.add(value)
        merged.merge(values)
    every = [value for part in parts for value in part]
    numbers = [value for value in every if not isinstance(value, bool) and isinstance(value, (int, float))]
    assert (merged.low, merged.high) == ((min(numbers), max(numbers)) if numbers else (None, None))
    distinct = {(isinstance(value, bool), value) for value in every}
    assert merged.more == (len(distinct) > 10)
    if not merged.more:
        assert {(isinstance(value, bool), value) for value in merged.few} == distinct


@given(st.lists(st.floats(0, 1e6), min_size=2))
def test_quantiles_are_those_of_the_standard_library(values):
    told = quantiles(values)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert told["p50"] == pytest.approx(statistics.median(values))
    assert told["p95"] == pytest.approx(cuts[18])
    assert (told["min"], told["max"]) == (min(values), max(values))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = (
    "goal",
    "task_kind",
    "_materialized",
    "task_generator",
    "axes",
    "transcript",
    "data_axis",
    "entry_point",
    "budget",
)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), JSON, JSON)
def test_any_document_is_read_or_refused_with_a_reason(document, params, axes):
    """Nothing but ValueError (of which msgspec's is one) leaves the reader, and what is read can be kept and summed."""
    for more in (
        {},
        {"goal": "g"},
        {
            "goal": "g",
            "task_generator": {"kind": "enumerated", "params": {"items": params, "axes": axes}},
            "axes": axes,
        },
    ):
        try:
            facts = read_facts("/repo", json.dumps({**document, **more}).encode())
        except ValueError:
            continue
        assert isinstance(facts, Facts)
        assert facts.words == facts.words.lower()
        generator_rollup([facts])


def test_a_cache_folder_of_another_is_not_used(tmp_path):
    home = tmp_path / "home"
    env = {"XDG_CACHE_HOME": str(home / "cache")}
    assert cache_folder(env, home) == home / "cache" / "hpc-agent"
    (home / "cache" / "hpc-agent").chmod(0o777)  # others could put an index there
    assert cache_folder(env, home) is None
    (home / ".cache").write_text("no folder")
    assert cache_folder({}, home) is None
