"""Begin a campaign, look at it, and say what comes next."""
