"""Plan arrays and partitions before a submission."""
