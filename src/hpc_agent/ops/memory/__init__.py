"""Recall past interviews, and offer their best points as a start."""
