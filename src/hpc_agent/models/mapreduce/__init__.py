"""What is carried to the cluster: the runtime, the job templates, and the scaffold of ``tasks.py``.

Nothing here imports the rest of the package; the runtime is standard library only and runs under Python 3.6.
"""
