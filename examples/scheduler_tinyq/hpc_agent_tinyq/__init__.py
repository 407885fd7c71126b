"""The scheduler tinyq for hpc-agent: what the client needs to know of it."""

from pathlib import Path

from hpc_agent.infra.backends import Backend

HERE = Path(__file__).parent


def backend() -> Backend:
    return Backend("tinyq", templates=HERE / "templates", adapter=HERE / "adapter.py")
