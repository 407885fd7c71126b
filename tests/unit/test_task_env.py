import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.shared import task_environment
from hpc_agent.node.shared.run_folder import RunDocument

RUN = RunDocument(run_id="r", task_count=1, cmd_sha="s", resources={"cpus": 3}, env={"MINE": "1"})


@given(st.dictionaries(st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z"), st.text(max_size=20), max_size=5))
def test_no_kwarg_replaces_what_the_system_needs(kwargs):
    inherited = {"PATH": "/bin", "HOME": "/h", "SLURM_JOB_ID": "4", "LD_LIBRARY_PATH": "/l"}
    if task_environment.problems(kwargs):
        return
    env = task_environment.build(RUN, "/run", 0, kwargs, "/run/res", inherited)
    for name, value in inherited.items():
        assert env[name] == value
    for name, value in kwargs.items():
        assert env["HPC_KW_" + name.upper()] == value


def test_threads_follow_the_cpus_unless_asked_otherwise():
    env = task_environment.build(RUN._replace(env={"OMP_NUM_THREADS": "1"}), "/run", 0, {}, "/r", {})
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]) == ("1", "3")


@given(st.text(max_size=30))
def test_a_result_folder_never_leaves_the_run(value):
    folder = task_environment.result_folder("results/{x}", "r", 0, {"x": value})
    assert folder.startswith("results/")
    assert ".." not in folder.split("/")
    assert len(folder.split("/")) == 2


@pytest.mark.parametrize("template", ["/abs/{x}", "../{x}", "a/../..", "."])
def test_a_template_that_leads_out_is_refused(template):
    with pytest.raises(ValueError, match="not inside"):
        task_environment.result_folder(template, "r", 0, {"x": "v"})


@pytest.mark.parametrize(
    "template",
    ["tasks/00000/{task_id}.json", "run.json/{task_id}", "work/{x}", "Claims/{x}", ".hidden/{x}", "results/{task_id:>300}",
     "results/{x.a}", "results/{x[0]}", "results/{x!r}", "results/{}", "results/" + "y" * 201],
)  # fmt: skip
def test_a_template_keeps_to_plain_fields_and_out_of_the_machinery(template):
    with pytest.raises(ValueError, match=r"plain name|belongs to|longer than"):
        task_environment.result_folder(template, "r", 0, {"x": "v"})


def test_the_tasks_own_number_wins_over_a_kwarg():
    assert task_environment.result_folder("results/{task_id}", "r", 4, {"task_id": 9}) == "results/4"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "hf_abc", True),
        ("hfToken", "x", True),
        ("GITHUB_TOKEN_2", "ghp_1", True),
        ("TOKEN", "t", True),
        ("db_password", "12345", True),
        ("WANDB_API_KEY", "123456", True),
        ("AWS_SECRET_ACCESS_KEY", "k", True),
        ("CLIENT_SECRET", "s", True),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("TOKENIZER", "bert-base", False),
        ("MAX_TOKENS", "512", False),
        ("MAX_NEW_TOKEN", "512", False),
        ("TOKENS_PER_BATCH", "4e5", False),
        ("PAD_TOKEN", "[PAD]", False),
        ("TOKEN_PATTERN", "[a-z]+", False),
        ("HF_TOKEN_PATH", "/home/ada/.token", False),
        ("DB_PASSWORD_FILE", "/run/secret", False),
        ("SECRETARY_FILE", "x.csv", False),
        ("MONKEY", "1", False),
        ("COMPASS", "north", False),
    ],
)
def test_what_looks_like_a_secret(name, value, secret):
    assert task_environment.looks_secret(name, value) == secret


def test_a_trial_knows_its_number_its_campaign_and_the_rule_of_early_stopping():
    run = RUN._replace(campaign_id="c", trials=[7, 9], early_stop={"metric": "loss", "reduction": 3})
    env = task_environment.build(run, "/scratch/hpc-agent/repo-1/runs/r", 1, {}, "/r", {})
    assert env["HPC_TRIAL"] == "9"
    assert env["HPC_CAMPAIGN_DIR"] == "/scratch/hpc-agent/repo-1/campaigns/c"
    assert env["HPC_EARLY_STOP"] == '{"metric": "loss", "reduction": 3}'
    plain = task_environment.build(RUN._replace(campaign_id="c"), "/run", 0, {}, "/r", {})
    assert not plain.keys() & {"HPC_TRIAL", "HPC_CAMPAIGN_DIR", "HPC_EARLY_STOP"}
