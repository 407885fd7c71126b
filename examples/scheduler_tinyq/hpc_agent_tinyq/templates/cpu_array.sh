#!/bin/bash
# What tinyq starts for each element: tell hpc-agent which element this is, then let it take over.
export HPC_ELEMENT="$TINYQ_INDEX"
export HPC_JOB_ID="$TINYQ_JOB"
. "$HPC_RUN_DIR/work/.hpc/templates/preamble.sh"
hpc_dispatch
