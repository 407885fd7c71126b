"""Fold the records of tasks into one table."""
