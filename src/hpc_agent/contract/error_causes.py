"""What usually lies behind each error code, and what to do: the entries of docs/reference/troubleshooting.md.

An error says its own cause in ``message`` and its own remedy; these are the causes that are met most often, the most
frequent first. A test holds the codes against ``errors.BY_CODE``.
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """A cause that is met often: what one sees, and what to do. Both are Markdown."""

    seen: str
    remedy: str


CAUSES: dict[str, tuple[Cause, ...]] = {
    "spec_invalid": (
        Cause(
            "a flag or field is misspelt, or has the wrong type",
            "`field` names it, `message` has the closest right name. `hpc-agent describe VERB` lists what there is",
        ),
        Cause(
            "`.hpc/tasks.py` raises an error, or gives other tasks in a second process",
            "`details` has the task and the traceback. `resolve` must not use the clock, chance, or the order of a set",
        ),
        Cause(
            "a parameter does not reach the executor",
            "`hpc-agent validate-executor-signatures` shows how each one arrives; "
            "`--pass-as` of `build-tasks-py` is your word for it",
        ),
        Cause("two tasks have one result folder", "put every parameter that differs into `--result-dir-template`"),
    ),
    "executor_not_found": (
        Cause(
            "the command is meant for another folder",
            "paths are relative to the repo's root. Call from there, or give `--experiment-dir`",
        ),
        Cause("the script is left out of the push", "take it out of `.hpcignore`"),
        Cause(
            "a script is started without an interpreter and is not executable",
            "`chmod +x`, or begin the command with `python3`",
        ),
    ),
    "cluster_unknown": (
        Cause(
            "a typing error", "`details.closest` has the names that are near. `hpc-agent clusters-list` has all of them"
        ),
        Cause("another clusters.yaml is read", "`HPC_CLUSTERS_CONFIG` goes before `~/.hpc-agent/clusters.yaml`"),
    ),
    "config_invalid": (
        Cause(
            "a placeholder such as `<your_user>` is still there",
            "write the value into your own clusters.yaml; it is merged over the packaged one",
        ),
        Cause(
            "a misspelt key", "`details` has file, cluster, key and the closest right one: [all keys](cluster-keys.md)"
        ),
        Cause(
            "the scheduler is unknown",
            "a scheduler of another package has to be installed beside hpc-agent: "
            "[adding a scheduler](../extending/scheduler.md)",
        ),
    ),
    "precondition_failed": (
        Cause(
            "a file changed while the run was frozen or pushed",
            "run the same command again when nothing writes into the repo. "
            "A program's own output belongs into `.hpcignore`",
        ),
        Cause(
            "another process submits from the same repo, or holds the run's lock",
            "wait until it has ended; then the same command again",
        ),
        Cause(
            "the run was pruned, or a removal of it was interrupted",
            "`message` says when. `hpc-agent prune-runs --run-ids RUN` shows what is left; `submit --rerun` runs it anew",
        ),
        Cause(
            "the token of `prune-runs` was for other runs",
            "a run has ended, come or changed since: look again, and give the new token",
        ),
        Cause("nothing of the run is complete yet", "`hpc-agent monitor-flow` first"),
        Cause("an optional package is missing", "the remediation has the `pip install` line"),
    ),
    "run_not_found": (
        Cause(
            "the command is given in another folder", "runs belong to a repo. `cd` there, or give `--experiment-dir`"
        ),
        Cause("the run was submitted from another machine", "`hpc-agent reconcile --remote --cluster NAME` adopts it"),
    ),
    "needs_resolution": (
        Cause(
            "every failure that is left needs a person", "`hpc-agent failures` has each class with evidence and remedy"
        ),
        Cause("a field of the request has several candidates", "`details` lists them; name one"),
        Cause(
            "you know better",
            "`hpc-agent resubmit --classes NAME`, `--task-id N`, or `--force` beyond the count of attempts",
        ),
    ),
    "canary_failed": (
        Cause(
            "the first task failed",
            "`details.failure` has class, evidence and the end of the log. Corrected code is a new run",
        ),
        Cause(
            "it ended well and wrote no metrics",
            "write numbers to `$HPC_RESULT_DIR/metrics.json`, or declare the file with `--metrics-file`",
        ),
    ),
    "reproduction_differs": (
        Cause(
            "inputs, code or environment differ",
            "the first of `details.differences` names which. `hpc-agent run-story` has them for each run",
        ),
        Cause(
            "the program draws numbers without a seed, or sums in another order",
            "fix the seed, or state a tolerance with `--rtol`",
        ),
    ),
    "worker_auth_unavailable": (
        Cause(
            "you are logged in to Claude Code, and a headless worker cannot use that login",
            "`export ANTHROPIC_API_KEY=...`, or the credentials of Bedrock, Vertex or Foundry",
        ),
        Cause(
            "a harness starts processes with an empty environment",
            "pass the key on, or name a `--settings` file with apiKeyHelper",
        ),
        Cause(
            "you want no worker",
            "`hpc-agent run --workflow NAME --inline` returns the prompt for the session that you have",
        ),
    ),
    "worker_not_installed": (
        Cause(
            "`claude` is not on the `PATH` of this process",
            "install Claude Code, or use `--inline`: [Claude Code](../howto/claude-code.md)",
        ),
    ),
    "worker_failed": (
        Cause(
            "it needed more turns, money or time than it had",
            "`details.outcome` says which; `--max-turns`, `--max-budget-usd` and `--timeout-sec` give more",
        ),
        Cause(
            "it was killed, or its answer had another form",
            "`hpc-agent load-context` says how far it came; what it began is safe to repeat",
        ),
    ),
    "interrupted": (
        Cause(
            "Control-C, or a signal to the process",
            "nothing is lost: the same command goes on after the steps that were finished",
        ),
    ),
    "ssh_unreachable": (
        Cause(
            "an agent harness starts processes with an empty environment", "pass on `SSH_AUTH_SOCK`, `HOME` and `PATH`"
        ),
        Cause(
            "the site asks for a password or a code",
            "open the connection once by hand; the remediation has the command: [SSH](../howto/ssh.md)",
        ),
        Cause(
            "the host key is new or has changed",
            "log in once by hand and compare the fingerprint with the one that the site publishes",
        ),
        Cause("the VPN is down, or the name is wrong", "`ssh -o BatchMode=yes HOST true` must end with exit code 0"),
        Cause(
            "the host did not answer five times in a row",
            "it is not asked for 30 seconds, then for longer; `HPC_NO_BREAKER=1` asks at once",
        ),
    ),
    "preflight_failed": (
        Cause(
            "a check of the cluster is red",
            "`details.red` has each with what was found and a line to paste; then `hpc-agent setup --cluster NAME` again: "
            "[your cluster](../tutorials/your-cluster.md)",
        ),
    ),
    "cluster_timeout": (
        Cause(
            "the login node or the scheduler's controller is overloaded or down",
            "wait a minute; then the same command again",
        ),
        Cause(
            "a remote command needs more than two minutes",
            "`HPC_SSH_TIMEOUT_SEC=600`; for the push `HPC_RSYNC_TIMEOUT_SEC`",
        ),
    ),
    "scheduler_throttled": (
        Cause(
            "the controller limits how often it may be asked",
            "wait a minute; raise `min_poll_sec` of the cluster in clusters.yaml",
        ),
    ),
    "scheduler_refused": (
        Cause(
            "partition, account or QOS",
            "`message` has the scheduler's words. `hpc-agent recommend-partition` asks which partitions fit",
        ),
        Cause(
            "too much walltime, memory or CPUs for a node",
            "ask for less, or put the site's limits into clusters.yaml, so that the next plan keeps them",
        ),
        Cause(
            "too many jobs in the queue",
            "arrays that were accepted stay accepted. `hpc-agent monitor-flow` sends the others when there is room; "
            "or lower `max_concurrent_jobs`",
        ),
        Cause("an array longer than the site allows", "set `constraints.max_array_size`"),
        Cause("memory per node, where the site wants it per CPU", "`mem_per_cpu: true`"),
    ),
    "submission_unknown": (
        Cause(
            "sbatch or qsub was killed or lost its connection",
            "wait a minute; then the same `hpc-agent submit` again: "
            "it looks the job up by its unique name before it acts",
        ),
        Cause("queue and accounting do not answer", "nothing is submitted before they do"),
    ),
    "remote_command_failed": (
        Cause("there is no `python3` from 3.6 on", "`python` in clusters.yaml names another one"),
        Cause(
            "`sbatch` or `qsub` is not on the path of a non-interactive shell",
            "`shell_init` in clusters.yaml names a file that sets it",
        ),
        Cause(
            "a start-up file of the login shell prints text or calls `exec`", "let it do so in interactive shells only"
        ),
        Cause("rsync is missing there", "put its folder on the path of a non-interactive login"),
    ),
    "storage_full": (
        Cause(
            "the scratch disk or a quota is full", "free some space; then the same command again. No result was lost"
        ),
        Cause(
            "more is pushed than there is room",
            "list in `.hpcignore` what tasks do not need; big data belongs into `--shared-paths`",
        ),
    ),
    "combiner_failed": (
        Cause("your own reducer failed", "`details` has its exit code and the end of its output"),
        Cause("a record or result file cannot be read", "`details` names it; then `hpc-agent aggregate --force`"),
    ),
    "outputs_missing": (
        Cause("tasks failed or still run", "`hpc-agent status`, then `hpc-agent failures`"),
        Cause("a declared metric is not in some results", "`column_violations` names the tasks"),
    ),
    "journal_corrupt": (
        Cause(
            "the disk was full, or somebody edited the file",
            "the remediation has the `mv` command. What is true of a run lies on the cluster, "
            "so that the same `hpc-agent submit` finds it",
        ),
    ),
    "schema_incompat": (
        Cause(
            "the file was written by a newer hpc-agent",
            "update this one; the sidecar in `.hpc/runs/` names the version that wrote it",
        ),
    ),
    "internal": (
        Cause(
            "a bug in hpc-agent",
            "report `message` and `details`. Nothing on the cluster is in doubt: the same command may be given again",
        ),
    ),
}
