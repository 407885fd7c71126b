"""What the executors share."""
