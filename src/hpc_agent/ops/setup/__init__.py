"""Clusters of this user, and the demo."""
