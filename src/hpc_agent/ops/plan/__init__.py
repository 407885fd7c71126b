"""Resources and arrays of a run, decided before it is submitted."""
