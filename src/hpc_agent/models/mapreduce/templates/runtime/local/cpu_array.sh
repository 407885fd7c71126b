#!/bin/bash
# Array of the embedded local scheduler, on CPUs.
# The resources are asked for on the command line of the submission; this script carries no value of the user.
export HPC_ELEMENT="$HPC_LOCAL_INDEX"
export HPC_JOB_ID="$HPC_LOCAL_JOB_ID"
. "$HPC_RUN_DIR/work/.hpc/templates/preamble.sh"
hpc_dispatch
