"""Measure hpc-agent beside its peers: ``python -m benchmarks`` from the root of a checkout.

Each row is measured in one run, the sides in turn (A B A B), and stands in RESULTS.md with its budget. The other files of this
folder are programs of their own: ``python benchmarks/faults.py``.
"""
