"""Campaigns without a cluster: manifest, journal of asks and tells, strategies, budget, stopping, the next step."""
