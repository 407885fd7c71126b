"""A discrete-event simulator of a cluster, against which the planner, the submission and the monitor run unchanged.

``swf`` reads and writes workload logs in the Standard Workload Format, ``lublin`` makes one from a statistical model,
``clock`` is simulated time, ``cluster`` the scheduler with its nodes and other users, ``records`` what our tasks leave in
the run's folder, ``adapter`` the scheduler adapter of the node side, ``session`` the product around it, in this process.

    python tests/simulator --help
"""
