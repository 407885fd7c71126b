"""What experiments import: ``@register_run`` and the helpers for series. Standard library of Python 3.6 only, because it
travels with every run; it imports nothing from the rest of the package.
"""
