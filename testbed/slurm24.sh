# shellcheck shell=bash disable=SC2034
# What slurm24-up and slurm24-down share: where the newer SLURM lies, and how a script runs in it. Sourced after lib.sh.

ROOT=$TESTBED_DIR/slurm24-root      # Debian 13
BED=$TESTBED_DIR/slurm24            # the bed's own folder, the same path inside and outside
USER_NUMBER=6424
export TESTBED_SSH_PORT=${TESTBED_SSH_PORT:-2241} TESTBED_PORT_BASE=${TESTBED_PORT_BASE:-24800}
export TESTBED_USER=${TESTBED_USER:-hpcuser24} TESTBED_ALIAS=${TESTBED_ALIAS:-slurm24-testbed}
export TESTBED_CTLD_PARAMETERS=${TESTBED_CTLD_PARAMETERS:-rl_enable,rl_bucket_size=40,rl_refill_rate=2,rl_refill_period=1,rl_log_freq=0}

# inside COMMAND...: run it in the Debian 13, where the scripts of the bed lie in /bed. The mounts belong to a namespace that
# ends with its last process.
inside() {
    TESTBED_INSIDE_ROOT=$ROOT TESTBED_INSIDE_BED=$BED TESTBED_INSIDE_SCRIPTS=$HERE \
        unshare --mount --propagation private bash "$HERE/slurm24.sh" "$@"
}

_mount_and_run() {
    local root=$TESTBED_INSIDE_ROOT bed=$TESTBED_INSIDE_BED folder
    mkdir -p "$root/bed" "$root$bed"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    hostname >"$root/etc/hostname"
    for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder" || exit 1; done
    mount --bind "$bed" "$root$bed" && mount --bind "$TESTBED_INSIDE_SCRIPTS" "$root/bed" || exit 1
    exec env TESTBED_DIR="$bed" chroot "$root" "$@"
}

[ "${BASH_SOURCE[0]}" != "$0" ] || _mount_and_run "$@"
