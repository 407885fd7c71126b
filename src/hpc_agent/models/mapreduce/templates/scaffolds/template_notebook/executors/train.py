"""The command line of notebooks/train.ipynb: runs its cells, then its registered function with the flags given."""

import io
import os

from hpc_agent.experiment_kit import main
from hpc_agent.experiment_kit.notebooks import code_cells

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOTEBOOK = os.path.join(ROOT, "notebooks", "train.ipynb")

if __name__ == "__main__":
    with io.open(NOTEBOOK, encoding="utf-8") as handle:
        cells = code_cells(handle.read())
    for number, source in cells:
        exec(compile(source, "%s[cell %d]" % (NOTEBOOK, number), "exec"), globals())
    main()
