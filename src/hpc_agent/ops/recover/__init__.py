"""Failures into remedies: resubmit, reconcile."""
