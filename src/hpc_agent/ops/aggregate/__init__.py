"""From task records to one table."""
