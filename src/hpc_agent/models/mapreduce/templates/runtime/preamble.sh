# Every job template sources this file: it loads modules and conda, and defines hpc_dispatch, which replaces the shell, so that signals reach the dispatcher.
# Inputs (environment): HPC_RUN_DIR, HPC_ARRAY, HPC_PYTHON; optional HPC_SHELL_INIT, HPC_MODULES, HPC_CONDA_SOURCE, HPC_CONDA_ENV; HPC_RUNTIME_DIR and HPC_PROGRAM (reduce.sh).
# shellcheck shell=bash

# A job without any locale gets the one that Python takes from 3.7 on: in C, R and older Pythons stumble over umlauts.
# RHEL 7 has no C.UTF-8: R, Perl and bash would warn of it.
hpc_dispatch() {
    [ -n "${LC_ALL:-}${LC_CTYPE:-}${LANG:-}" ] || [ "$(LC_ALL=C.UTF-8 locale charmap 2>/dev/null)" != UTF-8 ] ||
        export LC_CTYPE=C.UTF-8
    exec "${HPC_PYTHON:-python3}" "${HPC_RUNTIME_DIR:-$HPC_RUN_DIR/work/.hpc}/_hpc_dispatch.py" "${HPC_PROGRAM:-task}" "$@"
}

hpc_environment_failed() {
    echo "hpc-agent: $1" >&2
    hpc_dispatch --environment-failed "$1"
}

hpc_load_modules() {
    [ -n "${HPC_MODULES:-}" ] || return 0
    local init name before
    if ! type module >/dev/null 2>&1; then
        for init in "${MODULESHOME:-/nonexistent}/init/bash" /etc/profile.d/modules.sh /etc/profile.d/lmod.sh \
            /usr/share/modules/init/bash /usr/share/lmod/lmod/init/bash; do
            # shellcheck disable=SC1090
            [ -r "$init" ] && . "$init" && break
        done
    fi
    type module >/dev/null 2>&1 || hpc_environment_failed "this node has no 'module' command (modules: $HPC_MODULES)"
    for name in $HPC_MODULES; do
        before=${LOADEDMODULES:-}
        module load "$name" || hpc_environment_failed "module load $name failed"
        hpc_module_is_loaded "$name" "$before" ||
            hpc_environment_failed "module load $name ended with exit code 0, but the module is not loaded"
    done
}

# Environment Modules before version 4 end with 0 when a module does not exist. A module that loaded may have another name
# than the one that was asked for (a default version, an alias). One that was there before is found by its file.
hpc_module_is_loaded() {
    local file
    [ "${LOADEDMODULES:-}" = "$2" ] || return 0
    case ":$2:" in *":$1:"*) return 0 ;; esac
    file=$(module show "$1" 2>&1 | sed -n 's/^[[:space:]]*\(\/.*\):$/\1/p' | head -n 1)
    case ":${_LMFILES_:-}:" in
        *":${file:-no such file}:"*) ;;
        *) return 1 ;;
    esac
}

hpc_activate_conda() {
    [ -n "${HPC_CONDA_ENV:-}" ] || return 0
    [ -r "${HPC_CONDA_SOURCE:-}" ] || hpc_environment_failed "conda_source ${HPC_CONDA_SOURCE:-(not set)} cannot be read on this node"
    # shellcheck disable=SC1090
    . "$HPC_CONDA_SOURCE" || hpc_environment_failed "$HPC_CONDA_SOURCE failed"
    conda activate "$HPC_CONDA_ENV" || hpc_environment_failed "conda activate $HPC_CONDA_ENV failed"
}

hpc_source_init() {
    [ -n "${HPC_SHELL_INIT:-}" ] || return 0
    [ -r "$HPC_SHELL_INIT" ] || hpc_environment_failed "shell_init $HPC_SHELL_INIT cannot be read on this node"
    # shellcheck disable=SC1090
    . "$HPC_SHELL_INIT"
}

# The output of a requeued element goes on in the same file; node/look/logs.py reads what is after the last such line.
case "${SLURM_RESTART_COUNT:-0}/${RESTARTED:-0}/${HPC_LOCAL_ATTEMPT:-1}" in
    0/0/1) ;;
    *) echo "hpc-agent: the scheduler started this element again" >&2 ;;
esac
# Messages in English, for 'hpc-agent failures' reads them. LANGUAGE counts for translated messages alone, also beside LC_ALL; LC_MESSAGES would
# change the language that Java programs work in. Shell_init, modules and the run's env may set it again.
export LANGUAGE=en

hpc_source_init
hpc_load_modules
hpc_activate_conda
