"""Repair runs and the journal."""
