"""How a worker may sign in, and what must never be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc_agent.errors import SpecInvalid, WorkerAuthUnavailable

API_KEY = "ANTHROPIC_API_KEY"
PROVIDERS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|_PAT$", re.IGNORECASE)
# Keys of Anthropic, and user and password in a URL, whatever variable has them.
_SECRET_TEXT = re.compile(r"sk-ant-[A-Za-z0-9_-]{6,}|(?<=://)[^\s/:@'\"]+:[^\s/@'\"]+(?=@)")
_SHORTEST = 8
_OFF = ("", "0", "false", "no", "off")


def read_settings(path: Path | None) -> dict[str, Any]:
    """Return the settings in a file that the request names. Raises SpecInvalid."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecInvalid(f"the settings {path} cannot be read: {reason}", field="settings") from error
    if not isinstance(document, dict):
        raise SpecInvalid(f"the settings {path} are no JSON object", field="settings")
    return document


def sign_in(env: Mapping[str, str], settings: dict[str, Any]) -> str:
    """Return how a worker will sign in. Raises WorkerAuthUnavailable where it cannot: a login of Claude Code does not count."""
    known = with_settings(env, settings)
    if known.get(API_KEY, "").strip():
        return API_KEY
    if isinstance(helper := settings.get("apiKeyHelper"), str) and helper.strip():
        return "apiKeyHelper"
    for name in PROVIDERS:
        if known.get(name, "").strip().lower() not in _OFF:
            return name
    raise auth_unavailable(f"neither {API_KEY} nor a cloud provider's switch ({', '.join(PROVIDERS)}) is set")


def with_settings(env: Mapping[str, str], settings: dict[str, Any]) -> dict[str, str]:
    """Return the variables that claude sees: this environment, and those of its settings."""
    given = settings.get("env")
    return {**env, **{name: str(value) for name, value in (given if isinstance(given, dict) else {}).items()}}


def auth_unavailable(found: str) -> WorkerAuthUnavailable:
    """Return the error, which names the line to export."""
    message = f"worker authentication unavailable: {found}; a login of Claude Code does not reach a worker"
    return WorkerAuthUnavailable(message)


def without_secrets(value: Any, env: Mapping[str, str]) -> Any:
    """Return JSON without the values of variables that hold secrets, and without whatever looks like a key.

    A secret may be written as JSON or Python writes it. Half a character becomes a question mark.
    """
    known = [text for name, text in env.items() if _SECRET_NAME.search(name) and len(text) >= _SHORTEST]
    written = {
        form for text in known for form in (text, *(json.dumps(text, ensure_ascii=a)[1:-1] for a in (True, False)))
    }
    secrets = sorted(written | {repr(text)[1:-1] for text in known}, key=len, reverse=True)

    def cleaned(item: Any) -> Any:
        if isinstance(item, str):
            for text in secrets:
                item = item.replace(text, "***")
            return _SECRET_TEXT.sub("***", item).encode(errors="replace").decode()
        if isinstance(item, list):
            return [cleaned(one) for one in item]
        return {cleaned(name): cleaned(one) for name, one in item.items()} if isinstance(item, dict) else item

    return cleaned(value)
