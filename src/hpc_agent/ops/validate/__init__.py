"""Check a run before its submission."""
