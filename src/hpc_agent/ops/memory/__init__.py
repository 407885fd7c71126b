"""What happened before."""
