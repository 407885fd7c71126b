"""Write the report of a run or of a campaign."""
