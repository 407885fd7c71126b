"""From a request to accepted arrays, exactly once."""
