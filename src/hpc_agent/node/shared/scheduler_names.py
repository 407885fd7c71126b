"""Name the schedulers whose adapters are part of the runtime."""

BUILT_IN = {"slurm": "Slurm", "sge": "GridEngine", "local": "Local"}
