# The GPU templates source this file after preamble.sh. It asks for reproducible kernels and for memory on demand, and checks the GPU.
# shellcheck shell=bash

export CUBLAS_WORKSPACE_CONFIG="${CUBLAS_WORKSPACE_CONFIG-:4096:8}"
export XLA_PYTHON_CLIENT_PREALLOCATE="${XLA_PYTHON_CLIENT_PREALLOCATE-false}"
export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF-expandable_segments:True}"
echo "hpc-agent: GPUs ${CUDA_VISIBLE_DEVICES:-not restricted} on $(hostname)" >&2
if command -v nvidia-smi >/dev/null 2>&1 && ! nvidia-smi -L >&2; then
    hpc_environment_failed "nvidia-smi finds no usable GPU on this node"
fi
