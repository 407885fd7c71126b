"""Write tasks, executors and submit specs from a user's repo."""
