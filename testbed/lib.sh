# shellcheck shell=bash disable=SC2034
# What the test bed's scripts share, and scripts/test with them. Sourced by bash; set NAME before.

TESTBED_DIR=${TESTBED_DIR:-/tmp/hpc-testbed}
SGE_SPOOL=/var/spool/gridengine     # the Debian packages' choice
STARTED_AT=$(date +%s%N)
STARTED_ANY=    # set once a daemon had to be started: only then is a smoke test worth its seconds

# The bed is made with the system's own tools, whatever the caller has first on PATH.
system_environment() {
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
    export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
    umask 022
}

# ---------------------------------------------------------------- talking
say() {
    local ms=$(( ($(date +%s%N) - STARTED_AT) / 1000000 ))
    printf '[%s %3d.%ds] %s\n' "$NAME" $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}
die() { say "ERROR: $*"; exit 1; }

# fail WHAT LOG...: the end of the logs, then die
fail() {
    local what=$1; shift
    tail -n 20 "$@" >&2 2>/dev/null
    die "$what failed; see $*"
}

# ---------------------------------------------------------------- waiting and processes
# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local end=$(( $(date +%s) + $1 )) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || { say "timed out waiting for $what"; return 1; }
        sleep 0.2
    done
}

# alive PIDFILE COMM: the process in PIDFILE runs and is called COMM
alive() {
    local pid
    [ -s "$1" ] && read -r pid <"$1" && running_pid "$pid" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}

# a container's first process may be slow to reap: a zombie has ended
running_pid() { grep -qE '^State:[[:space:]]+[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

as_user() { local user=$1; shift; setpriv --reuid "$user" --regid "$user" --init-groups "$@"; }

# ensure_daemon PIDFILE COMM LOG COMMAND...: start it unless it is alive.
# Its output goes to LOG, never to ours: a daemon that holds our stdout keeps `up | tail` from ending.
ensure_daemon() {
    local pidfile=$1 comm=$2 log=$3; shift 3
    alive "$pidfile" "$comm" && return 0
    rm -f "$pidfile"
    "$@" </dev/null >>"$log" 2>&1 || fail "$comm" "$log"
    STARTED_ANY=1
}

# stop PIDFILE COMM SECONDS: TERM, wait, then KILL
stop() {
    local pid end=$(( $(date +%s) + $3 ))
    if alive "$1" "$2"; then
        read -r pid <"$1"
        kill "$pid"
        while running_pid "$pid"; do
            [ "$(date +%s)" -lt "$end" ] || { kill -9 "$pid" 2>/dev/null; break; }
            sleep 0.1
        done
    fi
    rm -f "$1"
}

# stop_oar PIDFILE: Almighty and the modules that it started. They go on for seconds, and a new one would meet them.
stop_oar() {
    local pid group
    group=$(alive "$1" Almighty && cat "$1")
    stop "$1" Almighty 20
    [ -n "$group" ] || return 0
    wait_for 20 "the modules of Almighty" no_process_in_session "$group" && return
    for pid in $(pgrep -s "$group"); do kill -9 "$pid" 2>/dev/null; done
}
no_process_in_session() {
    local pid
    for pid in $(pgrep -s "$1"); do ! running_pid "$pid" || return 1; done
}

# ---------------------------------------------------------------- files
# put MODE OWNER FILE COMMAND...: the command's output becomes the file, atomically, and only when it differs
# (then CHANGED=1): a running bed has readers
put() {
    local mode=$1 owner=$2 file=$3; shift 3
    (umask 077; "$@" >"$file.new") || die "cannot write $file.new"
    cmp -s "$file.new" "$file" && { rm "$file.new"; return; }
    CHANGED=1
    { chmod "$mode" "$file.new" && chown "$owner:$owner" "$file.new" && mv "$file.new" "$file"; } ||
        die "cannot write $file"
}

# ---------------------------------------------------------------- packages
can_install() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# install_packages PACKAGE...: those that are missing. One apt at a time, and no package starts its own service.
install_packages() {
    local package missing=()
    for package in "$@"; do installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    can_install || die "missing: ${missing[*]} (root on Debian installs them)"
    mkdir -p "$TESTBED_DIR"
    say "installing: ${missing[*]}"
    with_apt_lock _apt_install "${missing[@]}" || fail "apt-get install" "$TESTBED_DIR/apt-$NAME.log"
    say "packages installed"
}

# download_package PACKAGE FOLDER: its .deb, not installed. The sandbox's user may not write below root's folders.
download_package() {
    local log=$TESTBED_DIR/apt-$NAME.log
    cd "$2" && _apt_update >"$log" 2>&1 &&
        apt-get -q -o APT::Sandbox::User=root download "$1" </dev/null >>"$log" 2>&1
}

with_apt_lock() {
    (
        flock -w 900 9 || die "another installation holds $TESTBED_DIR/apt.lock"
        "$@" 9>&-
    ) 9>"$TESTBED_DIR/apt.lock"
}

_apt_update() { apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null; }

_apt_install() {
    local log=$TESTBED_DIR/apt-$NAME.log policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap "rm -f /usr/sbin/policy-rc.d" EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    _apt_update >"$log" 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
            install --no-install-recommends "$@" </dev/null >>"$log" 2>&1
}

# ---------------------------------------------------------------- the login user and its sshd
# make_user USER HOME SCRATCH [VARIABLE=VALUE...]: SCRATCH and the variables reach non-interactive commands too
make_user() {
    local user=$1 home=$2 scratch=$3; shift 3
    mkdir -p "$(dirname "$home")" "$(dirname "$scratch")"
    getent passwd "$user" >/dev/null || useradd -M -U -s /bin/bash -d "$home" "$user" || die "useradd $user"
    [ "$(getent passwd "$user" | cut -d: -f6)" = "$home" ] || usermod -d "$home" "$user" || die "usermod -d $user"
    # '*': no password, and yet not "locked" in sshd's eyes
    [ "$(getent shadow "$user" | cut -d: -f2)" = '*' ] || usermod -p '*' "$user" || die "usermod -p $user"
    install -d -m 700 -o "$user" -g "$user" "$home" "$home/.ssh"
    install -d -m 755 -o "$user" -g "$user" "$scratch"
    put 644 "$user" "$home/.bashrc" echo "export SCRATCH=$scratch $*"
    # shellcheck disable=SC2088
    put 644 "$user" "$home/.profile" echo '. ~/.bashrc'
}

# start_sshd CONFIG_DIR RUN_DIR LOG_DIR PORT USER HOME ALIAS [SHELL...]: key login for USER on 127.0.0.1:PORT; writes
# CONFIG_DIR/ssh_config with the hosts ALIAS (multiplexed) and ALIAS-direct, and sets DIRECT_SSH to the latter's command.
# ALIAS-SHELL is the host for the user hpcSHELL, whose home lies beside HOME.
start_sshd() {
    local config=$1 run=$2 log=$3 port=$4 user=$5 home=$6 alias=$7 key shell; shift 7
    mkdir -p /run/sshd "$config/ssh"
    for key in host_ed25519 id_ed25519; do
        [ -s "$config/ssh/$key" ] || ssh-keygen -q -t ed25519 -N '' -C "testbed $key" -f "$config/ssh/$key"
    done
    put 600 "$user" "$home/.ssh/authorized_keys" cat "$config/ssh/id_ed25519.pub"
    for shell in "$@"; do
        put 600 "hpc$shell" "$(dirname "$home")/hpc$shell/.ssh/authorized_keys" cat "$config/ssh/id_ed25519.pub"
    done
    put 644 root "$config/ssh/known_hosts" \
        echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$config/ssh/host_ed25519.pub")"
    CHANGED=
    put 644 root "$config/ssh/sshd_config" _sshd_config "$config" "$run" "$port" "$user${*/#/ hpc}"
    if [ -n "$CHANGED" ] && alive "$run/sshd.pid" sshd; then kill -HUP "$(cat "$run/sshd.pid")"; fi
    put 644 root "$config/ssh_config" _ssh_config "$config" "$run" "$port" "$user" "$alias" "$@"
    ensure_daemon "$run/sshd.pid" sshd "$log/sshd.start" \
        /usr/sbin/sshd -f "$config/ssh/sshd_config" -E "$log/sshd.log"
    # the -direct host: a multiplexing master would stay behind and keep our stdout open
    DIRECT_SSH=(ssh -F "$config/ssh_config" "$alias-direct")
    wait_for 60 "ssh login" "${DIRECT_SSH[@]}" true || fail "ssh login" "$log/sshd.log"
    say "sshd up"
}

_sshd_config() {
    cat <<E
Port $3
ListenAddress 127.0.0.1
HostKey $1/ssh/host_ed25519
PidFile $2/sshd.pid
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers $4
UsePAM no
PrintMotd no
MaxSessions 64
MaxStartups 64:30:128
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
LogLevel VERBOSE
E
}

_ssh_config() {
    local shell
    for shell in "${@:6}"; do printf 'Host %s\n    User %s\n\n' "$5-$shell" "hpc$shell"; done
    cat <<E
# $5: multiplexed; the others: one connection a command
Host $5 $5-*
    HostName 127.0.0.1
    Port $3
    User $4
    IdentityFile $1/ssh/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile $1/ssh/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    ConnectTimeout 10
    ServerAliveInterval 15
    LogLevel ERROR

Host $5
    ControlMaster auto
    ControlPath $2/cm-%C
    ControlPersist 120
E
}
