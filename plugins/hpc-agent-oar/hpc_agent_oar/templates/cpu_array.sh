#!/bin/bash
# OAR array: each element is a job of its own, and indices start at 1.
# The command of the submission has the resources and the variables; this script has no value of the user.
export HPC_ELEMENT="$((OAR_ARRAY_INDEX - 1))"
export HPC_JOB_ID="$OAR_ARRAY_ID"
. "$HPC_RUN_DIR/work/.hpc/templates/preamble.sh"
hpc_dispatch
