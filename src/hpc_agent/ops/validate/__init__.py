"""What could go wrong with a submission, found before it is made: findings with severity, evidence and a fix."""
