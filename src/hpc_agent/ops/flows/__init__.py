"""Hold the verbs that call verbs of several stages."""
