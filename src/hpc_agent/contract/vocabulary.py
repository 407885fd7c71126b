"""Words that several requests share."""

from typing import Literal

# Two words for each end; ``hpc_agent.node.shared.metric_names.best_end`` reads them.
Direction = Literal["auto", "min", "max", "minimize", "maximize"]
