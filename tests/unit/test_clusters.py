"""clusters.yaml: layers, and errors that name the file, the cluster and the key."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.errors import ClusterUnknown, ConfigInvalid
from hpc_agent.infra import cluster_checks
from hpc_agent.infra.clusters import (
    PACKAGED,
    Cluster,
    cluster_keys,
    cluster_problems,
    get_cluster,
    load_clusters,
    load_clusters_config,
)
from hpc_agent.infra.constraints import ClusterConstraints, parse_constraints
from hpc_agent.infra.yaml_file import read_mapping

GOOD = """\
mine:
  scheduler: slurm
  host: login.example.org
  user: ada
  scratch: /scratch/ada
"""


@pytest.fixture
def home(tmp_path):
    return tmp_path


def write(home, text):
    path = home / ".hpc-agent" / "clusters.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def mine(home, lines=""):
    """The good cluster with more lines; keys given again replace those of GOOD."""
    extra = [line for line in lines.splitlines() if line.strip()]
    replaced = {line.split(":")[0].strip() for line in extra}
    kept = [line for line in GOOD.splitlines() if line.split(":")[0].strip() not in replaced]
    write(home, "\n".join([*kept, *("  " + line for line in extra)]) + "\n")
    return get_cluster("mine", {}, home)


def complaint(home, lines):
    with pytest.raises(ConfigInvalid) as caught:
        mine(home, lines)
    error = caught.value
    assert str(home / ".hpc-agent" / "clusters.yaml") in error.message
    assert "cluster 'mine'" in error.message
    assert "hpc-agent clusters-describe mine" in error.remediation
    assert error.message.split(" (and")[0] in cluster_problems("mine", {}, home)
    return error


def test_a_cluster_and_its_defaults(home):
    cluster = mine(home)
    assert cluster == Cluster(
        name="mine", scheduler="slurm", host="login.example.org", user="ada", scratch="/scratch/ada",
        max_walltime_sec=86400, constraints=cluster.constraints,
    )  # fmt: skip
    assert parse_constraints(cluster.constraints) == ClusterConstraints()
    assert cluster.ssh_target == "ada@login.example.org"
    assert (cluster.python, cluster.min_poll_sec, cluster.cold_start_mem_buffer) == ("python3", 30, 0.15)
    assert (cluster.parallel_environment, cluster.sge_memory_resource) == ("shared", "h_data")
    assert cluster.sge_gpu_request == "cuda={count}"
    assert cluster.auto_daisy_chain is None
    assert cluster.walltime_arbitrage is True


def test_the_target_is_user_and_host_or_the_alias_or_this_machine(home):
    write(home, "alias: {scheduler: sge, scratch: /s/a, host: hoff}\nhere: {scheduler: slurm, scratch: /s/a}\n")
    assert get_cluster("alias", {}, home).ssh_target == "hoff"
    assert get_cluster("here", {}, home).ssh_target is None


def test_the_shipped_local_cluster_works_as_it_is(home):
    cluster = get_cluster("local", {}, home)
    assert (cluster.scheduler, cluster.ssh_target, cluster.conda_envs) == ("local", None, [])
    assert cluster.scratch_path(home) == f"{home}/.hpc-agent/local"


@pytest.mark.parametrize("name", ["hoffman2", "discovery"])
def test_the_other_shipped_clusters_want_the_users_values(home, name):
    problems = cluster_problems(name, {}, home)
    assert [p.split(f"cluster '{name}': ")[1].split(":")[0] for p in problems] == ["user", "scratch"]
    assert all(problem.startswith("the packaged clusters.yaml: ") for problem in problems)
    with pytest.raises(ConfigInvalid, match="<your_user>") as caught:
        get_cluster(name, {}, home)
    assert caught.value.field == f"{name}.user"
    assert str(home / ".hpc-agent" / "clusters.yaml") in caught.value.remediation
    assert caught.value.details["problems"] == problems


def test_the_shipped_clusters_need_nothing_but_those_values(home):
    mine_too = "{user: ada, scratch: /u/scratch/ada, conda_envs: [research]}"
    write(home, f"hoffman2: {mine_too}\ndiscovery: {mine_too}\n")
    hoffman2 = get_cluster("hoffman2", {}, home)
    assert hoffman2.ssh_target == "ada@hoffman2.idre.ucla.edu"
    assert hoffman2.scheduler == "sge"
    assert hoffman2.modules == ["python/3.11.9"]
    assert hoffman2.gpu_types == ["a100", "h200", "a6000"]
    assert {queue.name.lower() for queue in hoffman2.gpu_queues.values()} == set(hoffman2.gpu_types)
    assert hoffman2.sge_gpu_request == "gpu,{type},cuda={count}"
    assert get_cluster("discovery", {}, home).scheduler == "slurm"


def test_the_users_file_is_merged_key_by_key_and_each_key_knows_its_file(home):
    file = write(home, "hoffman2:\n  user: ada\n  modules: []\n")
    raw = load_clusters({}, home)["hoffman2"]
    assert raw.values["user"] == "ada"
    assert raw.values["modules"] == []
    assert raw.values["host"] == "hoffman2.idre.ucla.edu"
    assert (raw.source["user"], raw.source["host"]) == (file, PACKAGED)


def test_a_null_puts_the_default_back(home):
    write(home, "hoffman2: {user: null, scratch: /s/a, conda_envs: null, gpu_queues: null}\n")
    cluster = get_cluster("hoffman2", {}, home)
    assert (cluster.user, cluster.conda_envs, cluster.gpu_queues) == (None, [], {})


def test_hpc_clusters_config_takes_the_place_of_the_file_in_the_home(home):
    write(home, GOOD)
    other = home / "other.yaml"
    other.write_text("theirs: {scheduler: slurm, scratch: /s/b}\n")
    for value in (str(other), "~/other.yaml"):
        names = set(load_clusters({"HPC_CLUSTERS_CONFIG": value}, home))
        assert names == {"theirs", "hoffman2", "discovery", "local"}
    assert "mine" in load_clusters({"HPC_CLUSTERS_CONFIG": ""}, home)


def test_a_named_file_that_is_missing_is_an_error(home):
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml: cannot be read"):
        load_clusters({"HPC_CLUSTERS_CONFIG": str(home / "nowhere.yaml")}, home)
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml"):
        load_clusters_config(home / "nowhere.yaml")


def test_the_public_loader_gives_plain_dicts(home):
    import hpc_agent

    write(home, GOOD)
    config = hpc_agent.load_clusters_config(env={"HOME": str(home)})
    assert config["mine"]["scratch"] == "/scratch/ada"
    assert config["hoffman2"]["user"] == "<your_user>"
    other = home / "other.yaml"
    other.write_text("theirs: {scheduler: slurm}\n")
    assert hpc_agent.load_clusters_config(other)["theirs"] == {"scheduler": "slurm"}


def test_one_broken_cluster_leaves_the_others_alone(home):
    write(
        home,
        GOOD + "broken: 3\nworse: {scheduler: slurm, hots: x}\nno: {scheduler: slurm, scratch: /s/a}\n'../x': {}\n",
    )
    assert get_cluster("mine", {}, home).host == "login.example.org"
    assert "must be a mapping of keys, not int 3" in cluster_problems("broken", {}, home)[0]
    assert "did you mean 'host'?" in cluster_problems("worse", {}, home)[0]
    for name in ("False", "../x"):
        with pytest.raises(ConfigInvalid, match="cannot be a cluster's name"):
            get_cluster(name, {}, home)


def test_an_unknown_cluster_is_answered_with_the_names_there_are(home):
    with pytest.raises(ClusterUnknown, match="did you mean 'hoffman2'") as caught:
        get_cluster("hofman2", {}, home)
    assert caught.value.details == {"known": ["discovery", "hoffman2", "local"], "closest": ["hoffman2"]}
    with pytest.raises(ClusterUnknown):
        cluster_problems("nothing", {}, home)


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        ("max_walltime_secs: 5", "max_walltime_secs", "did you mean 'max_walltime_sec'?"),
        ("zzz: 5", "zzz", "is not a known key"),
        ("name: other", "name", "is not a known key"),
        ("user: <your_user>", "user", "placeholder <your_user>"),
        ("conda_envs: [good, <your_env>]", "conda_envs", "placeholder <your_env>"),
        ("gpu_queues: {gpu.q: {name: <your_gpu>}}", "gpu_queues", "placeholder <your_gpu>"),
        ("gpu_queues: {<your_queue>: {name: A100}}", "gpu_queues", "placeholder <your_queue>"),
        ("modules: python/3", "modules", "Expected `array`, got `str`"),
        ("account: 12345", "account", "Expected `str | null`, got `int`"),
        ("python: 3.11", "python", "Expected `str`, got `float`"),
        ("default_mem_mb: 0", "default_mem_mb", ">= 1"),
        ("min_poll_sec: 0", "min_poll_sec", ">= 1"),
        ("cold_start_mem_buffer: -0.1", "cold_start_mem_buffer", ">= 0"),
        ("auto_daisy_chain: maybe", "auto_daisy_chain", "maybe"),
        ("gpu_queues: {gpu.q: {name: A100, pref: 2}}", "gpu_queues", "pref"),
        ("gpu_queues: {gpu.q: {name: A100, perf: 0}}", "gpu_queues", "> 0"),
        ("default_walltime_sec: soon", "default_walltime_sec", "write seconds"),
        ("constraints: {max_aray_size: 5}", "constraints", "did you mean max_array_size?"),
        ("constraints: [5]", "constraints", "must be a mapping"),
        ("scheduler: slrum", "scheduler", "'slrum' is not known; the schedulers are slurm, sge, local"),
        ("scheduler: null", "scheduler", "is missing"),
        ("scratch: null", "scratch", "is missing"),
        ("scratch: scratch/ada", "scratch", "absolute path on the cluster"),
        ("scratch: ~/scratch", "scratch", "absolute path on the cluster"),
        ("scratch: /", "scratch", "folder of your own"),
        ("scratch: /home/", "scratch", "folder of your own"),
        ("scratch: //home", "scratch", "folder of your own"),
        ("scratch: /scratch/../etc", "scratch", "'..'"),
        ("scratch: /scratch/a b", "scratch", "are allowed"),
        ("scratch: /scratch/$USER", "scratch", "are allowed"),
        ("scratch: '/scratch/a;reboot'", "scratch", "are allowed"),
        ("host: -oProxyCommand=reboot", "host", "not starting with '-'"),
        ("host: 'a b'", "host", "letters, digits"),
        ("host: ada@login", "host", "letters, digits"),
        ("user: -l", "user", "not starting with '-'"),
        ("user: 'a;b'", "user", "letters, digits"),
        ('account: "a\\nb"', "account", "control character"),
        ("account: --uid=0", "account", "not starting with '-'"),
        ("modules: ['python; reboot']", "modules", "one word"),
        ("conda_envs: ['-x']", "conda_envs", "one word"),
        ("conda_source: ~/conda.sh", "conda_source", "absolute path on the cluster"),
        ("shell_init: profile.sh", "shell_init", "absolute path on the cluster"),
        ("nfs_data_dir: data", "nfs_data_dir", "absolute path on the cluster"),
        ("python: python3 -u", "python", "program name or an absolute path"),
        ("python: ~/bin/python", "python", "program name or an absolute path"),
        ("ssh_config: ~bob/config", "ssh_config", "a path on this machine"),
        ("gpu_queues: {'-q': {name: A100}}", "gpu_queues", "one word"),
        ("gpu_queues: {gpu.q: {name: 'A 100'}}", "gpu_queues", "one word"),
        ("sge_gpu_request: 'gpu={number}'", "sge_gpu_request", "field {number}"),
        ("sge_gpu_request: 'gpu={'", "sge_gpu_request", "gpu={"),
        ("sge_gpu_request: 'gpu -l x'", "sge_gpu_request", "resources such as"),
    ],
)
def test_a_wrong_value_is_refused_by_file_cluster_and_key(home, lines, key, words):
    error = complaint(home, lines)
    assert error.field == f"mine.{key}"
    assert f": {key}: " in error.message
    assert words in error.message
    assert error.details["key"] == key
    assert error.details["cluster"] == "mine"


def test_every_problem_is_told_at_once(home):
    error = complaint(home, "hots: x\nuser: <your_user>\nscheduler: slrum\n")
    assert len(error.details["problems"]) == 3
    assert "(and 2 more)" in error.message


def test_a_scheduler_from_another_package_is_found(home, monkeypatch):
    import importlib.metadata as metadata

    points = (metadata.EntryPoint("pbs", "somewhere:PBS", "hpc_agent.backends"),)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
    assert mine(home, "scheduler: pbs").scheduler == "pbs"
    assert "slurm, sge, local, pbs" in complaint(home, "scheduler: lsf").message


def test_built_in_schedulers_search_no_other_packages(home, monkeypatch):
    import importlib.metadata as metadata

    def searched(**_):
        raise AssertionError("entry points were read")

    monkeypatch.setattr(metadata, "entry_points", searched)
    for name in ("slurm", "sge", "local"):
        assert mine(home, f"scheduler: {name}").scheduler == name


def test_two_places_for_the_walltime_limit_agree(home):
    for lines, limit in (
        ("max_walltime_sec: 604800", 604800),
        ("constraints: {max_walltime: 2-00:00:00}", 172800),
        ("max_walltime_sec: 3600\nconstraints: {max_walltime: 2-00:00:00}", 3600),
        ('max_walltime_sec: "7-00:00:00"\nconstraints: {max_walltime: 2-00:00:00, max_tasks: 5}', 172800),
        ("constraints: {max_tasks: 5}", 86400),
        ("max_walltime_sec: 24:00:00", 86400),
    ):
        cluster = mine(home, lines)
        assert cluster.max_walltime_sec == limit
        assert parse_constraints(cluster.constraints).max_walltime_sec == limit


def test_paths_are_expanded_against_the_home_they_are_given(home):
    write(home, "a: {scheduler: local, scratch: ~/runs//x/, ssh_config: ~/.ssh/other}\n")
    cluster = get_cluster("a", {}, home)
    assert cluster.scratch_path(Path("/h")) == "/h/runs/x"
    assert cluster.ssh_config_path(Path("/h")) == "/h/.ssh/other"
    assert mine(home).ssh_config_path(home) is None


def test_a_relative_ssh_config_lies_beside_the_file_that_names_it(home):
    assert mine(home, "ssh_config: testbed/config").ssh_config_path(Path("/h")) == f"{home}/.hpc-agent/testbed/config"


def test_scratch_on_this_machine_may_have_any_name_but_must_be_absolute(home):
    write(home, "a: {scheduler: local, scratch: '~/My Runs'}\nb: {scheduler: local, scratch: runs}\n")
    assert get_cluster("a", {}, home).scratch_path(home) == f"{home}/My Runs"
    assert "or ~/..." in cluster_problems("b", {}, home)[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a:\n  b: [1\nc: 2\n", 3, ""),
        ("a: {scheduler: slurm}\n\tb: 1\n", 2, ""),
        ("a: {x: 1}\nb: {x: 1}\na: {x: 2}\n", 3, "the key 'a' is given twice"),
        ("a:\n  user: x\n  host: y\n  user: z\n", 4, "the key 'user' is given twice"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", 2, "the key '<<' is given twice"),
        ("a:\n  - {x: 1, x: 2}\n", 2, "the key 'x' is given twice"),
        ("- a\n- b\n", 1, "must be a mapping, not a list"),
        ("a: 1\n---\nb: 2\n", 2, ""),
        ("a: !!python/object:os.system x\n", 1, ""),
    ],
)
def test_what_is_no_proper_yaml_names_the_file_and_the_line(home, text, line, words):
    file = write(home, text)
    with pytest.raises(ConfigInvalid) as caught:
        load_clusters({}, home)
    assert caught.value.message.startswith(f"{file}, line {line}: ")
    assert words in caught.value.message


@pytest.mark.parametrize("data", [b"a: \xff\xfe\n", b"\x00", b"a: 2024-13-45\n"])
def test_odd_bytes_are_a_config_error_too(tmp_path, data):
    file = tmp_path / "clusters.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigInvalid, match=r"clusters\.yaml"):
        read_mapping(file)


def test_a_value_that_holds_itself_is_refused(home):
    assert "refers to itself" in complaint(home, "conda_envs: &envs [*envs]").message


def test_yaml_merge_keys_and_an_empty_file_are_fine(home):
    write(home, "base: &base {scheduler: slurm, scratch: /s/a, host: one}\nmine: {<<: *base, host: two}\nsame: *base\n")
    assert get_cluster("mine", {}, home).host == "two"
    assert get_cluster("same", {}, home).host == "one"
    write(home, "# nothing yet\n")
    assert "local" in load_clusters({}, home)


@given(st.text(max_size=12))
def test_no_accepted_host_or_user_can_be_taken_for_an_option_or_split_by_a_shell(word):
    for key in ("host", "user"):
        refused = [k for k, _ in cluster_checks.complaints_about({key: word}, Path("/h"))]
        harmless = word.isascii() and word != "" and word[0] != "-" and all(c.isalnum() or c in "._-" for c in word)
        assert harmless or refused == [key]


@given(st.text(alphabet="/.ab ~$;-", max_size=8))
def test_no_accepted_remote_scratch_climbs_or_is_a_root(path):
    values = {"scratch": path, "host": "h"}
    if not list(cluster_checks.complaints_about(values, Path("/h"))):
        assert path.startswith("/")
        assert ".." not in path.split("/")
        assert cluster_checks.expand(path, Path("/h")) not in ("/", "/home")
        assert not set(path) & set(" $;")


def test_keys_describe_themselves():
    rows = {row.key: row for row in cluster_keys()}
    assert {name for name in rows if "." not in name} == set(Cluster.__struct_fields__) - {"name"}
    assert all(row.description for row in rows.values())
    assert [name for name, row in rows.items() if row.required] == ["scheduler", "scratch"]
    assert rows["auto_daisy_chain"].type == "boolean or 'detect'"
    assert rows["modules"].type == "list of string"
    assert rows["python"].default == "python3"
    assert rows["constraints.max_array_size"].default == 1000


def test_importing_it_loads_neither_yaml_nor_the_search_for_entry_points():
    check = (
        "import sys, hpc_agent.infra.clusters; print([m for m in ('yaml', 'importlib.metadata') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
