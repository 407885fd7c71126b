"""The scheduler OAR for hpc-agent: what the client needs to know of it."""

from pathlib import Path

from hpc_agent.infra.backends import Backend

HERE = Path(__file__).parent
CANNOT = {
    "max_running": "OAR has no limit on the elements of one array that run at once",
    "memory": "OAR takes no request for memory, and does not see that a job used too much",
    "gpus": "what a GPU is called differs from site to site: there is no template gpu_array",
    "change_waiting": "no tool of OAR changes what a waiting job asks for",
    "limits": "a user of OAR cannot read the limits of queues and users",
}


def backend() -> Backend:
    return Backend("oar", HERE / "templates", HERE / "adapter.py", CANNOT)
