"""One class per ``error_code``: what happened (docstring), exit code, retry, and the command to run next.

The category decides the exit code: ``user`` 1, ``cluster`` and ``network`` 2, ``internal`` 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_CODES = {"user": 1, "cluster": 2, "network": 2, "internal": 3}

BY_CODE: dict[str, type[HpcError]] = {}  # every concrete class, by its ``error_code``
# Default remediation that several classes share.
REPEAT = "Run the same 'hpc-agent' command again: every step is safe to repeat."


class HpcError(Exception):
    """Base of every error that reaches a user as an envelope.

    ``remediation`` is one sentence with the command to run next; a class has a default, a call site a better one.
    ``details`` is a JSON object with the evidence (task ids, a log's tail, the offending value).
    """

    error_code: ClassVar[str] = "internal"
    category: ClassVar[str] = "internal"
    retry_safe: ClassVar[bool] = False
    default_remediation: ClassVar[str] = "Run 'hpc-agent capabilities' and report the message with its details."

    def __init_subclass__(
        cls, code: str = "", remedy: str = "", category: str = "", retry_safe: bool | None = None
    ) -> None:
        if code:
            cls.error_code, BY_CODE[code] = code, cls
        cls.default_remediation = remedy or cls.default_remediation
        cls.category = category or cls.category
        cls.retry_safe = cls.retry_safe if retry_safe is None else retry_safe

    def __init__(
        self,
        message: str,
        *,
        remediation: str | None = None,
        field: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remediation = remediation or self.default_remediation
        self.field = field
        self.details = details or {}

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.category]


# fmt: off
class UserError(HpcError, category="user"): ...
class ClusterError(HpcError, category="cluster", retry_safe=True): ...

class SpecInvalid(UserError, code="spec_invalid",
                  remedy="Run 'hpc-agent describe <verb>' to see the fields, and correct the one that is named."):
    """A request, a flag value, tasks.py or a sidecar is malformed."""

class ExecutorNotFound(UserError, code="executor_not_found",
                       remedy="Correct the 'executor' field, then run 'hpc-agent submit' again."):
    """The command of a task names a program that does not exist or cannot be executed."""

class ClusterUnknown(UserError, code="cluster_unknown", remedy="Run 'hpc-agent clusters-list' to see the names."):
    """No cluster of that name is configured."""

class ConfigInvalid(UserError, code="config_invalid",
                    remedy="Correct the file, then run 'hpc-agent clusters-list'."):
    """clusters.yaml is malformed, has a misspelt key, or still has a placeholder."""

class PreconditionFailed(UserError, code="precondition_failed",
                         remedy="Run 'hpc-agent load-context' to see which step comes next."):
    """A step was called out of order, or a file changed while the step ran."""

class RunNotFound(UserError, code="run_not_found",
                  remedy="Run 'hpc-agent list-in-flight --all-states' to see the runs of this repo."):
    """The journal of this machine holds no run of that id."""

class NeedsResolution(UserError, code="needs_resolution", remedy=(
        "Read 'details', correct the cause, then run 'hpc-agent submit' again: changed code is a new run.")):
    """Tasks would fail again or do harm: a person or agent has to decide first."""

class CanaryFailed(UserError, code="canary_failed",
                   remedy="Read 'details', correct the cause, then run 'hpc-agent submit-and-verify' again."):
    """The canary (one task, sent first) failed, or its results cannot be used; no other task was submitted."""

class ReproductionDiffers(UserError, code="reproduction_differs",
        remedy="Run 'hpc-agent run-story' for both runs: it tells what they ran on."):
    """A repeat of a run has other results, beyond the stated tolerances."""

class WorkerAuthUnavailable(UserError, code="worker_auth_unavailable", remedy=(
        "Run: export ANTHROPIC_API_KEY=sk-ant-... (or set up Bedrock, Vertex or Foundry), then the same 'hpc-agent run' again; "
        "or do the work in this session: 'hpc-agent run' with --inline returns the prompt.")):
    """A worker has no credentials: it takes ANTHROPIC_API_KEY or a cloud provider's only, never a login of Claude Code."""

class WorkerNotInstalled(UserError, code="worker_not_installed", remedy=(
        "Install Claude Code, so that 'claude' is on the PATH; or do the work in this session: 'hpc-agent run' with --inline "
        "returns the prompt.")):
    """There is no program 'claude' to start a worker with."""

class WorkerFailed(UserError, code="worker_failed", remedy=(
        "Run 'hpc-agent load-context': it says how far the worker came. Whatever it began is safe to repeat.")):
    """A worker ended without its report: limit of turns, money or time, a signal, or an answer of another form."""


class Interrupted(UserError, code="interrupted", retry_safe=True, remedy=REPEAT):
    """Control-C stopped the command. Finished steps are kept; the same command continues after them."""

class SshUnreachable(HpcError, code="ssh_unreachable", category="network", retry_safe=True, remedy=(
        "Check that 'ssh -o BatchMode=yes <host> true' works in this very environment (SSH_AUTH_SOCK set, key in "
        "'ssh-add -l', VPN up), then call again.")):
    """The host refused, did not answer in time, or did not accept the key."""

class RemoteCommandFailed(ClusterError, code="remote_command_failed", retry_safe=False, remedy=(
        "Read 'details.stderr_tail', then run the same hpc-agent command again, or see 'hpc-agent clusters-list'.")):
    """A command on the cluster exited non-zero, or its answer cannot be read."""

class PreflightFailed(ClusterError, code="preflight_failed", retry_safe=True,
                      remedy="Mend what 'details.red' names, then run 'hpc-agent setup --cluster <name>' again."):
    """A check of the cluster is red: a submit would fail, or its jobs would."""

class SchedulerThrottled(ClusterError, code="scheduler_throttled",
                         remedy="Wait a minute, then run the same 'hpc-agent' command again."):
    """The scheduler asks for less frequent requests."""

class SchedulerRefused(ClusterError, code="scheduler_refused", retry_safe=False,
                       remedy="Correct what the scheduler's message names, then run 'hpc-agent submit' again."):
    """The scheduler rejected the request (unknown partition, over a limit, bad account)."""

class SubmissionUnknown(ClusterError, code="submission_unknown", remedy=(
        "Wait a minute, then run the same 'hpc-agent submit' again: the job is looked up before anything is submitted.")):
    """The scheduler may or may not have accepted an array. No array is submitted before this is known."""

class ClusterTimeout(ClusterError, code="cluster_timeout", remedy=REPEAT):
    """A command on the cluster did not finish within its time limit."""

class CombinerFailed(ClusterError, code="combiner_failed",
                     remedy="Read 'details', then run 'hpc-agent aggregate' again."):
    """A wave could not be combined on the cluster."""

class OutputsMissing(ClusterError, code="outputs_missing",
                     remedy="Run 'hpc-agent status' and 'hpc-agent logs --all-failed' for the run."):
    """Tasks that must have results have none."""

class StorageFull(ClusterError, code="storage_full", remedy=(
        "Free some space (df -h, quota), then run the same 'hpc-agent' command again: no result was lost.")):
    """The cluster's scratch or this machine's disk is full, or a quota is used up."""

class JournalCorrupt(HpcError, code="journal_corrupt", remedy=(
        "Move the named file away, then run the same 'hpc-agent submit' again: the run is found on the cluster.")):
    """A journal or sidecar on this machine cannot be read."""

class SchemaIncompat(HpcError, code="schema_incompat", remedy="Update hpc-agent, then run 'hpc-agent --version'."):
    """A file was written by a version of hpc-agent whose format this version cannot read."""

class InternalError(HpcError, code="internal"):
    """Any other error: a bug in hpc-agent."""
# fmt: on
