"""Show the configured clusters."""
