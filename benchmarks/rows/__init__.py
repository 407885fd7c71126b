"""The rows, a module for each kind. ORDER is the order of RESULTS.md."""

ORDER = (
    "noops",
    "heavy_import",
    "alone",
    "cpu_per_task",
    "files",
    "status",
    "combine",
    "recovery",
    "planning",
    "push",
    "verbs",
    "startup",
)
