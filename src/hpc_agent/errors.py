"""One class per ``error_code``: exit code, whether a retry is safe, and a remediation that names a command.

Category decides the exit code: ``user`` 1, ``cluster`` and ``network`` 2, ``internal`` 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

EXIT_CODES = {"user": 1, "cluster": 2, "network": 2, "internal": 3}


class HpcError(Exception):
    """Base of every error that reaches a user as an envelope.

    ``remediation`` is one sentence with the command to type next; a class has a default, a call site a better one.
    ``details`` is a JSON object with the evidence (task ids, a log's tail, the offending value).
    """

    error_code: ClassVar[str] = "internal"
    category: ClassVar[str] = "internal"
    retry_safe: ClassVar[bool] = False
    default_remediation: ClassVar[str] = "Run 'hpc-agent capabilities' and report the message with its details."

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


class UserError(HpcError):
    category = "user"


class ClusterError(HpcError):
    category = "cluster"
    retry_safe = True


class SpecInvalid(UserError):
    """A request, a flag value, tasks.py or a sidecar is malformed."""

    error_code = "spec_invalid"
    default_remediation = "See the fields with 'hpc-agent describe <verb>' and correct the one named."


class ExecutorNotFound(UserError):
    """The command of a task names a program that does not exist or cannot be executed."""

    error_code = "executor_not_found"
    default_remediation = "Correct the 'executor' field, then run 'hpc-agent submit' again."


class ClusterUnknown(UserError):
    """No cluster of that name is configured."""

    error_code = "cluster_unknown"
    default_remediation = "Run 'hpc-agent clusters-list' to see the names."


class ConfigInvalid(UserError):
    """clusters.yaml is malformed, has a misspelt key, or a placeholder left in place."""

    error_code = "config_invalid"
    default_remediation = "Correct the file, then run 'hpc-agent clusters-describe <name>'."


class PreconditionFailed(UserError):
    """A step was called out of order, or something changed underneath it."""

    error_code = "precondition_failed"
    default_remediation = "Run 'hpc-agent load-context' to see what comes next."


class RunNotFound(UserError):
    """No run of that id is known here."""

    error_code = "run_not_found"
    default_remediation = "Run 'hpc-agent list-in-flight --all-states' to see the runs of this repo."


class NeedsResolution(UserError):
    """Going on by itself would do harm or burn a queue: a person or agent has to decide first."""

    error_code = "needs_resolution"
    default_remediation = (
        "Read 'details', correct the cause, then run 'hpc-agent submit' again: changed code is a new run."
    )


class CanaryFailed(UserError):
    """The one task that was sent first failed, or its results cannot be used; nothing else was submitted."""

    error_code = "canary_failed"
    default_remediation = "Read 'details', correct the cause, then run 'hpc-agent submit-and-verify' again."


class Interrupted(UserError):
    """Control-C: what was done stays done, and the same command goes on from there."""

    error_code = "interrupted"
    retry_safe = True
    default_remediation = "Run the same 'hpc-agent' command again: every step is safe to repeat."


class SshUnreachable(HpcError):
    """The host refused, did not answer in time, or did not accept the key."""

    error_code = "ssh_unreachable"
    category = "network"
    retry_safe = True
    default_remediation = (
        "Check that 'ssh -o BatchMode=yes <host> true' works in this very environment (SSH_AUTH_SOCK set, key in "
        "'ssh-add -l', VPN up), then call again."
    )


class RemoteCommandFailed(ClusterError):
    """A command on the cluster exited non-zero or answered with something unreadable."""

    error_code = "remote_command_failed"
    retry_safe = False
    default_remediation = "Read 'details.stderr_tail'; then call again, or see 'hpc-agent clusters-describe <name>'."


class SchedulerThrottled(ClusterError):
    """The scheduler asks for less frequent requests."""

    error_code = "scheduler_throttled"
    default_remediation = "Wait a minute, then run the same 'hpc-agent' command again."


class SchedulerRefused(ClusterError):
    """The scheduler rejected the request (unknown partition, over a limit, bad account)."""

    error_code = "scheduler_refused"
    retry_safe = False
    default_remediation = "Correct what the scheduler names in its message, then run 'hpc-agent submit' again."


class SubmissionUnknown(ClusterError):
    """It cannot be told whether the scheduler accepted an array; nothing is submitted blindly."""

    error_code = "submission_unknown"
    default_remediation = "Run the same 'hpc-agent submit' again in a minute: it looks the job up before it acts."


class ClusterTimeout(ClusterError):
    """A command on the cluster took longer than it may."""

    error_code = "cluster_timeout"
    default_remediation = "Run the same 'hpc-agent' command again: every step is safe to repeat."


class CombinerFailed(ClusterError):
    """A wave could not be combined on the cluster."""

    error_code = "combiner_failed"
    default_remediation = "Read 'details', then run 'hpc-agent aggregate' again."


class OutputsMissing(ClusterError):
    """Tasks that were required to have results have none."""

    error_code = "outputs_missing"
    default_remediation = "Run 'hpc-agent status' and 'hpc-agent logs --all-failed' for the run."


class StorageFull(ClusterError):
    """The cluster's scratch or this machine's disk is full, or a quota is used up."""

    error_code = "storage_full"
    default_remediation = (
        "Free some space (df -h, quota), then call the same 'hpc-agent' command again: nothing was lost."
    )


class JournalCorrupt(HpcError):
    """A journal or sidecar on this machine cannot be read."""

    error_code = "journal_corrupt"
    default_remediation = "Move the named file away, then run the same 'hpc-agent submit' again: it finds the run."


class SchemaIncompat(HpcError):
    """A file was written by a version that this one does not understand."""

    error_code = "schema_incompat"
    default_remediation = "Update hpc-agent, then run 'hpc-agent --version'."


class InternalError(HpcError):
    """Anything else: a bug in hpc-agent."""

    error_code = "internal"


def _subclasses(cls: type[HpcError]) -> list[type[HpcError]]:
    direct = cls.__subclasses__()
    return direct + [deep for sub in direct for deep in _subclasses(sub)]


def by_code() -> dict[str, type[HpcError]]:
    """Every concrete error class under its ``error_code``."""
    return {cls.error_code: cls for cls in _subclasses(HpcError) if "error_code" in vars(cls)}
