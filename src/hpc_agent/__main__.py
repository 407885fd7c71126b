"""``python -m hpc_agent``."""

import sys

from hpc_agent.cli import main

sys.exit(main())
