"""Flags of scripts, by the library that parses them; all of it read from source."""
