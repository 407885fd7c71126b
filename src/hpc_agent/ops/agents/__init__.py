"""Files for Claude Code, and the worker that runs a workflow in a fresh context."""
