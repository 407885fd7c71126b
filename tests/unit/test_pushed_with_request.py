"""Files that travel with the request to submit, and the runtime that travels once."""

import base64
import json
import os
import shutil
import zlib

import pytest

from hpc_agent.errors import HpcError
from hpc_agent.infra.clusters import Cluster
from hpc_agent.infra.remote import Node
from hpc_agent.infra.transport import LocalTransport
from hpc_agent.node.shared.errors import NodeError
from hpc_agent.node.submission import run_submission
from hpc_agent.world import World


def request(base=None, **files):
    texts = {name.replace("__", "/"): base64.b64encode(text.encode()).decode() for name, text in files.items()}
    return {"files": texts, "base": base, "incoming_name": "abc-1"}


def test_files_lie_where_a_push_puts_them(tmp_path):
    asked = request(a="1", folder__b="2")
    assert run_submission._receive(str(tmp_path), "new", asked) == 2
    assert asked["incoming"] == str(tmp_path / "incoming" / "abc-1")
    assert {path.read_text() for path in (tmp_path / "incoming").rglob("*") if path.is_file()} == {"1", "2"}


def test_a_file_that_a_killed_submission_linked_into_a_snapshot_stays_as_it_is(tmp_path):
    run_submission._receive(str(tmp_path), "new", request(a="1"))
    os.link(tmp_path / "incoming/abc-1/a", tmp_path / "linked")
    run_submission._receive(str(tmp_path), "new", request(a="changed"))
    assert ((tmp_path / "linked").read_text(), (tmp_path / "incoming/abc-1/a").read_text()) == ("1", "changed")


def test_a_snapshot_that_is_there_needs_no_files(tmp_path):
    (tmp_path / "snapshots" / "new").mkdir(parents=True)
    assert run_submission._receive(str(tmp_path), "new", request(a="1")) == 0
    assert not (tmp_path / "incoming").exists()


@pytest.mark.parametrize("lacks", ["base", "room"])
def test_the_client_is_told_to_ask_first(tmp_path, monkeypatch, lacks):
    if lacks == "room":
        monkeypatch.setattr(run_submission, "MUCH_ROOM", 1 << 62)
    with pytest.raises(NodeError) as caught:
        run_submission._receive(str(tmp_path), "new", request("gone" if lacks == "base" else None, a="1"))
    assert caught.value.details == {"snapshot": "missing"}
    assert not [path for path in (tmp_path / "incoming").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["../a", "/etc/a", "x/../../a"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    asked = {**request(), "files": {name: ""}}
    with pytest.raises(NodeError, match="not a path inside the repo"):
        run_submission._receive(str(tmp_path), "new", asked)


def test_the_runtime_travels_once_and_again_where_it_has_vanished(tmp_path, monkeypatch):
    sent = []
    run = LocalTransport.run

    def counted(transport, words, stdin, timeout):
        sent.append("files" in json.loads(zlib.decompress(base64.b64decode(stdin)).partition(b"\n")[0]))
        return run(transport, words, stdin, timeout)

    monkeypatch.setattr(LocalTransport, "run", counted)
    world = World(env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    node = Node(Cluster(name="c", scheduler="local", scratch=str(tmp_path / "s")), world, "repo-1")

    def ask():
        with pytest.raises(HpcError, match="has no verb"):  # the answer comes from the runtime
            node.bootstrap("nothing", {})
        node.bootstrap("paths", {"root": node.root, "paths": []})

    ask()
    assert sent == [True, True], "an error of a verb proves nothing"
    node.bootstrap("paths", {"root": node.root, "paths": []})
    shutil.rmtree(f"{node.root}/runtime")
    node.bootstrap("paths", {"root": node.root, "paths": []})
    assert sent == [True, True, False, False, True]
