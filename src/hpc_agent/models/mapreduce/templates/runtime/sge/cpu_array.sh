#!/bin/bash
# Grid Engine array on CPUs (its indices start at 1).
# The command line of the submission has the resources; this script has no value of the user.
export HPC_ELEMENT="$((SGE_TASK_ID - 1))"
export HPC_JOB_ID="$JOB_ID"
. "$HPC_RUN_DIR/work/.hpc/templates/preamble.sh"
hpc_dispatch
