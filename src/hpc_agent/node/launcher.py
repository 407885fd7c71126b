"""Start one array element, its workers, a reducer, or one verb for the client. Deployed as ``.hpc/_hpc_dispatch.py``."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

arguments = sys.argv[2:]
if sys.argv[1:2] == ["task"]:  # every array element starts here: as few imports as possible
    from _hpc_runtime.job.dispatch import main  # type: ignore[import-not-found]
elif sys.argv[1:2] == ["reduce"]:
    from _hpc_runtime.fold.reduce import main  # type: ignore[import-not-found]
elif sys.argv[1:2] == ["worker-host"]:
    from _hpc_runtime.job.worker_host import main  # type: ignore[import-not-found]
elif sys.argv[1:2] == ["worker"]:
    from _hpc_runtime.job.worker_host import main_alone as main
else:
    from _hpc_runtime.entry import main  # type: ignore[import-not-found]

    arguments = sys.argv[1:]
sys.exit(main(arguments))
