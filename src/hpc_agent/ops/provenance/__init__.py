"""Verbs about where results come from: repeat a run, compare the repeat, tell a run's story, publish a run."""
