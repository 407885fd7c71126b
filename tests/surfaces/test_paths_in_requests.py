"""Every path in a request: one that cannot be used is ``spec_invalid`` with its field, whatever the verb."""

from __future__ import annotations

import json

import pytest
from experiment import make_repo

from hpc_agent.cli import main
from hpc_agent.contract.catalogue import flags_of
from hpc_agent.contract.primitive import load_all

FIELDS = frozenset((
    "experiment_dir", "campaign_dir", "repo_dir", "output_dir", "source_path", "dataset_path", "search_dirs", "executors",
    "shared_paths", "outputs",
))  # fmt: skip
# Path -> part of the message.
PATHS = {
    "a\0b": "NUL",
    "x" * 5000: "",
    "x/" * 3000: "",
    "afile/x": "",
    "afile": "",
    "loop": "",
    "~nosuchuser/x": "",
}
FLAGS = {name: list(flags_of(verb.request, [])) for name, verb in load_all().items()}
CASES = [(verb, flag.path[0]) for verb, flags in FLAGS.items() for flag in flags if flag.path[0] in FIELDS]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a verb in this process, in a repo with a file, a loop of links and a task. Return the exit code and the envelope."""
    repo = make_repo(tmp_path / "repo", [{"x": 1}], executors__ridge="print(1)")
    (repo / "afile").write_text("x\n1\n")
    (repo / "loop").symlink_to("loop")
    for name in ("HPC_CLUSTERS_CONFIG", "HPC_JOURNAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(repo)

    def answer(verb, spec):
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        code = main([verb, "--spec", str(tmp_path / "spec.json")])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return answer


@pytest.mark.parametrize(("verb", "field"), CASES, ids=[f"{verb}-{field}" for verb, field in CASES])
def test_a_path_that_cannot_be_used_names_its_field(call, verb, field):
    _, example = call("scaffold-spec", {"verb": verb})
    is_list = isinstance(next(flag.default for flag in FLAGS[verb] if flag.path == [field]), list)
    for path in PATHS:
        code, envelope = call(verb, {**example["data"]["spec"], field: [path] if is_list else path})
        assert envelope["ok"] or envelope["error_code"] != "internal", (path[:20], envelope)
        # a short name of a file may be right; a verb may miss another thing first, which comes before its folder
        if (
            path != "afile"
            and not envelope["ok"]
            and envelope["error_code"] == "spec_invalid"
            and envelope["field"] == field
        ):
            assert (code == 1 and "hpc-agent" in envelope["remediation"]) or "call again" in envelope["remediation"]
        if "\0" in path:
            assert (envelope["error_code"], envelope["field"]) == ("spec_invalid", field)


@pytest.mark.parametrize("path", [path for path in PATHS if path != "a\0b"])
def test_the_folder_of_the_experiment_is_named(call, path):
    for verb in ("status", "submit", "load-context", "discover-executors", "aggregate"):
        _, example = call("scaffold-spec", {"verb": verb})
        code, envelope = call(verb, {**example["data"]["spec"], "experiment_dir": path})
        assert (code, envelope["error_code"], envelope["field"]) == (1, "spec_invalid", "experiment_dir"), envelope
        assert len(envelope["message"]) < 400
        assert "hpc-agent" in envelope["remediation"]


def test_a_tilde_below_a_folder_is_a_plain_name(call, tmp_path):
    (tmp_path / "repo/~x/executors").mkdir(parents=True)
    (tmp_path / "repo/~x/executors/a.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    code, envelope = call("discover-executors", {"experiment_dir": "./~x"})
    assert (code, [found["name"] for found in envelope["data"]["executors"]]) == (0, ["a"])
