"""Describe the verbs, the configured clusters and the earlier runs of a repo as data."""
