"""The primitives, one package per stage of a run's life."""
