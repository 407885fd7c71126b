"""Render the report of a run or of a campaign as one HTML file that needs no network."""
