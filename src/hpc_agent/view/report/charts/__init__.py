"""Draw the parts of a report, one module for each kind of chart. A run and a campaign share them."""
