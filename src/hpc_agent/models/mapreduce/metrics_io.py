"""The two helpers that executors used to import from here; they live in the kit."""

from hpc_agent.experiment_kit.registered_functions import read_kw_env, write_metrics

__all__ = ["read_kw_env", "write_metrics"]
