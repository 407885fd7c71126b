"""Requests as command lines, and commands in answers: each runs as printed."""

import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.cli.parse import parse_request
from hpc_agent.contract.advice import runnable
from hpc_agent.contract.catalogue import load_catalogue
from hpc_agent.contract.envelope import convert
from hpc_agent.ops.run.command_line import command_line
from hpc_agent.ops.run.resources import Resources
from hpc_agent.ops.run.run_request import Results, SubmitRequest

CATALOGUE = load_catalogue()
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
REQUESTS = st.builds(
    SubmitRequest,
    cluster=WORDS,
    executor=WORDS,
    experiment_dir=WORDS,
    env=st.dictionaries(WORDS, WORDS),
    outputs=st.lists(WORDS),
    extra_flags=st.lists(st.sampled_from(["--nice=5", "--reservation=a,b", "-q", "x"])),
    modules=st.none() | st.lists(st.sampled_from(["gcc/12", "python"])),
    pack=st.none() | st.integers(1, 9),
    est_task_sec=st.none() | st.floats(0.001, 1e6),
    resources=st.builds(Resources, mem_mb=st.none() | st.integers(1, 10**6)),
    results=st.builds(Results, metrics_file=st.none() | st.just("out.csv")),
    canary=st.booleans(),
    rerun=st.booleans(),
)


@given(REQUESTS)
def test_a_command_line_makes_the_same_request(request):
    program, verb, *words = shlex.split(command_line("submit", request))
    assert (program, verb) == ("hpc-agent", "submit")
    document = parse_request("submit", CATALOGUE["submit"], words, bytes, Path())
    assert convert(document, SubmitRequest, "submit") == request


def test_fields_at_their_default_are_left_out():
    assert command_line("submit", SubmitRequest(cluster="far", executor="a b")) == (
        "hpc-agent submit --cluster far --executor 'a b'"
    )


def advised(text, experiment_dir="my exp", again=lambda: "AGAIN"):
    return runnable({"remedy": text}, "submit", again, experiment_dir, CATALOGUE)["remedy"]


def test_advice_names_the_repo_of_the_call():
    assert advised("Run 'hpc-agent status --run-id x'.") == (
        "Run `hpc-agent status --experiment-dir 'my exp' --run-id x`."
    )
    assert advised("See 'hpc-agent failures', then 'hpc-agent capabilities'.", "d") == (
        "See 'hpc-agent failures --experiment-dir d', then 'hpc-agent capabilities'."
    )
    assert advised("hpc-agent status --run-id x", ".") == "hpc-agent status --run-id x"
    for as_it_is in (
        "hpc-agent clusters-list",
        "hpc-agent status --run-id x --experiment-dir y",
        "the hpc-agent command",
    ):
        assert advised(as_it_is) == as_it_is
    answer = {"next_steps": ["hpc-agent status", 3], "logs": "hpc-agent status", "rows": [{"fix": "hpc-agent logs"}]}
    assert runnable(answer, "submit", None, "d", CATALOGUE) == {
        "next_steps": ["hpc-agent status --experiment-dir d", 3],
        "logs": "hpc-agent status",
        "rows": [{"fix": "hpc-agent logs --experiment-dir d"}],
    }


def test_the_verb_of_the_call_without_options_is_the_same_call_again():
    assert advised("Wait, then run 'hpc-agent submit' again.") == "Wait, then run 'AGAIN' again."
    assert advised("Run 'hpc-agent submit'.", again=lambda: "hpc-agent submit --executor 'a b'") == (
        "Run `hpc-agent submit --executor 'a b'`."
    )
    assert advised("hpc-agent submit", again=None) == "hpc-agent submit --experiment-dir 'my exp'"
    assert advised("hpc-agent submit --rerun", ".") == "hpc-agent submit --rerun"
    assert advised("hpc-agent submit-and-verify", ".") == "hpc-agent submit-and-verify"
