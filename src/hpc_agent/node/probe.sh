# Tells what the login node of a cluster has, one fact a line, then starts Python with what came on standard input.
# Any POSIX shell runs it, for a node may have no Python. Nothing but one file in the scratch folder is written, and removed.
# Arguments: NONCE TOOLS SHELL_INIT PYTHON SCRATCH MODULES CONDA_SOURCE CONDA_ENV PREAMBLE LISTING SOURCE VERB; an empty one is not set.
nonce=$1 tools=$2 init=$3 python=$4 scratch=$5 modules=$6 conda=$7 environment=$8 preamble=$9
shift 9

fact() { printf '\nHPC-AGENT-FACT %s %s %s\n' "$nonce" "$1" "$(printf %s "$2" | tr '\n\r\t' '   ')"; }
limited() { if command -v timeout >/dev/null 2>&1; then timeout 15 "$@"; else "$@"; fi; }
found() { command -v "$1" 2>/dev/null; }
me=$(id -un)

fact time "$(date +%s)"
fact host "$(uname -n)"
fact system "$(uname -sr)"
fact user "$me"
fact home "$HOME"
fact login_shell "$SHELL"
fact path "$PATH"
fact rsync "$(found rsync)" # before shell_init, which rsync does not see
fact rsync_version "$(rsync --version 2>/dev/null </dev/null | sed -n 1p)"

if [ -n "$init" ]; then
    (. "$init" >/dev/null 2>&1 </dev/null; exit 77) >/dev/null 2>&1
    ended=$?
    if [ ! -r "$init" ]; then
        fact init missing
    elif [ "$ended" -ne 77 ]; then
        fact init ends
    else
        . "$init" >/dev/null 2>&1 </dev/null
        fact init ok
    fi
fi

missing=
for tool in $tools; do
    place=$(found "$tool")
    if [ -n "$place" ]; then fact "tool.$tool" "$place"; else missing="$missing $tool"; fi
done
case $tools in *sinfo*)
    fact version.slurm "$(limited sinfo --version 2>/dev/null </dev/null | sed -n 1p)"
    fact cluster_name "$(limited scontrol show config 2>/dev/null </dev/null | sed -n 's/^ClusterName *= *//p')"
    fact account "$(limited sacctmgr -nP show user "$me" format=DefaultAccount 2>/dev/null </dev/null | sed -n 1p)"
    ;;
esac
case $tools in *qstat*)
    fact version.sge "$(limited qstat -help 2>/dev/null </dev/null | sed -n 1p)"
    fact environments "$(limited qconf -spl 2>/dev/null </dev/null)"
    fact resources "$(limited qconf -sc 2>/dev/null </dev/null | sed -n 's/^\([a-z_0-9]*\) .*MEMORY.*YES.*/\1/p')"
    ;;
esac

# A command that is not found: a file that makes a shell find it, or the folder that has it.
if [ -n "$missing" ]; then
    for file in /etc/profile "$HOME/.profile" "$HOME/.bash_profile" "${SGE_ROOT:-/opt/sge}/default/common/settings.sh" \
        /usr/share/gridengine/default/common/settings.sh /opt/gridengine/default/common/settings.sh; do
        [ -r "$file" ] || continue
        # shellcheck disable=SC2016
        for tool in $(limited sh -c '. "$1" >/dev/null; shift; for tool; do command -v "$tool" >/dev/null && echo "$tool"; done' \
            sh "$file" $missing 2>/dev/null </dev/null); do
            fact "by.$tool" "$file"
        done
    done
fi
for folder in /usr/bin /bin /usr/local/bin /opt/slurm/bin /usr/local/slurm/bin /cm/shared/apps/slurm/current/bin \
    /opt/sge/bin/lx-amd64 /opt/gridengine/bin/lx-amd64 /opt/bin "$HOME/bin" "$HOME/.local/bin" "$HOME/miniconda3/bin"; do
    for tool in $missing rsync python3; do [ -x "$folder/$tool" ] && fact "in.$tool" "$folder"; done
done

near=$scratch
while [ -n "$near" ] && [ ! -e "$near" ]; do near=${near%/*}; done
near=${near:-/}
if [ -z "$scratch" ]; then
    first=${me%"${me#?}"}
    for folder in "${SCRATCH:-}" "${WORK:-}" "/scratch/$me" "/scratch/users/$me" "/scratch1/$me" "/u/scratch/$first/$me" \
        "/work/$me" "/lustre/$me" "/gpfs/$me" "/data/$me" "$HOME/scratch" "$HOME"; do
        case $folder in /?*) [ -d "$folder" ] && [ -w "$folder" ] && fact candidate "$folder" ;; esac
    done
elif [ -d "$scratch" ]; then
    fact scratch folder
    fact scratch.owner "$(ls -ld "$scratch")"
    trial=$scratch/.hpc-agent-probe-$nonce
    said=$(LC_ALL=C dd if=/dev/zero of="$trial" bs=4096 count=32 2>&1) && said=ok
    fact scratch.write "$said"
    rm -f "$trial" 2>/dev/null
elif [ -e "$scratch" ]; then
    fact scratch file
else
    fact scratch missing
    fact scratch.near "$near"
    [ -w "$near" ] && fact scratch.makeable yes
fi
if [ -n "$scratch" ]; then
    fact scratch.room "$(LC_ALL=C limited df -Pk "$near" 2>/dev/null | sed -n 2p)"
    fact scratch.files "$(LC_ALL=C limited df -Pi "$near" 2>/dev/null | sed -n 2p)"
    fact quota.lfs "$(LC_ALL=C limited lfs quota -q -u "$me" "$near" 2>/dev/null)"
fi
fact quota.gpfs "$(LC_ALL=C limited mmlsquota 2>/dev/null </dev/null | sed -n 1,6p)"
fact quota.beegfs "$(LC_ALL=C limited beegfs-ctl --getquota --uid "$me" --csv 2>/dev/null </dev/null | sed -n 2p)"
fact quota.quota "$(LC_ALL=C limited quota -wp 2>/dev/null </dev/null | sed -n '3,12p')"

# The job template itself tells whether a job finds modules and conda; a name that no site has tells whether there are modules.
environment_of() {
    ready=$(HPC_PYTHON=true HPC_RUN_DIR=/nonexistent HPC_SHELL_INIT=$init HPC_MODULES=$2 HPC_CONDA_SOURCE=$conda HPC_CONDA_ENV=$environment \
        limited bash -c "$preamble
echo HPC-AGENT-READY" bash 2>&1 </dev/null)
    case $ready in
        *HPC-AGENT-READY*) fact "$1" ok ;;
        *) fact "$1" "$(printf '%s\n' "$ready" | sed -n 's/^hpc-agent: //p')" ;;
    esac
}
environment_of module_system hpc-agent/none
if [ -n "$modules$environment" ]; then environment_of environment "$modules"; fi
if [ -n "$1" ]; then
    fact python_modules "$(limited bash -c "$1" bash 2>/dev/null </dev/null | grep -i '^[^ :]*python[^ :]*$' | sed -n 1,40p)"
fi

fact locale "${LC_ALL:-${LC_CTYPE:-${LANG:-}}}"
place=$(found "$python")
fact python "$place"
[ -n "$place" ] || exit 0
about='import sys; print("%d.%d.%d %s %s" % (sys.version_info[:3] + (sys.getfilesystemencoding(), sys.executable)))'
fact python.about "$("$python" -c "$about" 2>&1 </dev/null)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 6))' >/dev/null 2>&1 </dev/null || exit 0
exec "$python" -c "$2" "$3" "$nonce"
