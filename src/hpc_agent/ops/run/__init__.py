"""Hold what several stages need of a run: freeze, plan, check, submit, ask, and submit again."""
