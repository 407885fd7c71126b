#!/bin/bash
# Runs a reducer in the environment of the run's tasks: as a job of any scheduler, or on the login node.
# HPC_RUNTIME_DIR has this version's runtime, for that of an earlier run knows no reducer.
export HPC_JOB_ID="${SLURM_ARRAY_JOB_ID:-${HPC_LOCAL_JOB_ID:-${JOB_ID:-}}}"
. "$HPC_RUNTIME_DIR/templates/preamble.sh"
hpc_dispatch
