"""Submit the arrays of a run, exactly once."""
