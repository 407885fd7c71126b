"""Recall the earlier runs of a repo."""
