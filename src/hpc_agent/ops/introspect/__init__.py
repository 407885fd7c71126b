"""What hpc-agent can do, as data."""
