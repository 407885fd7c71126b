"""From somebody's repo to a planned run: discovery, tasks, interview, axes."""
