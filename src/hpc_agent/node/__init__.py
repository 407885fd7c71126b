"""The part of hpc-agent that runs on the cluster, deployed as ``.hpc/_hpc_runtime`` beside ``.hpc/_hpc_dispatch.py``.

Python 3.6, standard library only. Every verb reads one JSON request on stdin and prints one framed JSON answer.
"""
