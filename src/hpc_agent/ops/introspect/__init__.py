"""Describe the verbs of hpc-agent as data."""
