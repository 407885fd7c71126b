#!/bin/bash
# Array of the embedded local scheduler, on CPUs.
# The command line of the submission has the resources; this script has no value of the user.
export HPC_ELEMENT="$HPC_LOCAL_INDEX"
export HPC_JOB_ID="$HPC_LOCAL_JOB_ID"
. "$HPC_RUN_DIR/work/.hpc/templates/preamble.sh"
hpc_dispatch
