"""Define a finding of a validator, and the verdict over several findings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hpc_agent.contract.primitive import Result
from hpc_agent.errors import SpecInvalid
from hpc_agent.ops.run.fields import doc

Severity = Literal["error", "warning", "info"]


class Finding(msgspec.Struct, frozen=True):
    """One observation of a validator."""

    validator: str
    severity: Severity
    code: str
    message: str
    suggested_fix: str = ""
    evidence: dict[str, Any] = {}


class ValidationResult(Result):
    overall: Annotated[Literal["pass", "warn", "fail"], doc("the worst finding decides; infos do not count")]
    findings: list[Finding]


def verdict(findings: list[Finding]) -> Literal["pass", "warn", "fail"]:
    """Return the verdict over all findings: the worst one decides."""
    severities = {finding.severity for finding in findings}
    return "fail" if "error" in severities else "warn" if "warning" in severities else "pass"


def result_of(findings: list[Finding]) -> ValidationResult:
    """Return the result of one validator. Raises SpecInvalid for an error among the findings."""
    refuse(findings)
    return ValidationResult(overall=verdict(findings), findings=findings)


def refuse(findings: list[Finding]) -> None:
    """Raise SpecInvalid with all findings when one of them is an error."""
    first = next((finding for finding in findings if finding.severity == "error"), None)
    if first is not None:
        raise SpecInvalid(
            first.message,
            field=str(first.evidence.get("field") or first.validator),
            remediation=f"{first.suggested_fix} All findings: 'hpc-agent validate-campaign'.".strip(),
            details={"findings": msgspec.to_builtins(findings)[:50]},
        )
