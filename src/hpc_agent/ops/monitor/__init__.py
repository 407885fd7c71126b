"""Show the state of runs, and the reasons of it."""
