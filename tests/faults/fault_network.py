"""SSH that is cut before, during and after a remote command; masters that hang; an sshd that is gone for a while."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
from pathlib import Path

from fault_bench import Bench, Experiment, until
from fault_kills import STEPS
from fault_processes import masters, node_processes, session_of
from fault_scheduler import bring_back, pid_file
from faults import Outcome, fault

WRAPPER = """#!/bin/bash
for word in "$@"; do [ "$word" = -O ] && exec {ssh} "$@"; done
call=1
until mkdir {calls}/$call 2>/dev/null; do call=$((call + 1)); done
[ $call = {which} ] || exec {ssh} "$@"
{cut}
echo 'Connection to 127.0.0.1 closed by remote host.' >&2
exit 255
"""
CALLS = {"prepare": 1, "push": 2, "submit": 3, "a look": 4, "submit with the files": 1}


def cuts(when: str, call: str, seconds: float) -> str:
    if when == "before":
        return ":"
    if when == "during":
        return f'timeout --foreground -s KILL {seconds:.2f} {shutil.which("ssh")} "$@"'
    # rsync talks through its ssh: what it says must arrive, or both wait for ever.
    return f'{shutil.which("ssh")} "$@"' + ("" if call == "push" else " >/dev/null 2>&1")


def cut(when: str, call: str, bench: Bench) -> Outcome:
    folder = bench.folder / "calls"
    folder.mkdir()
    wrapper = bench.folder / "ssh-that-is-cut"
    lie = cuts(when, call, bench.dice.uniform(0.05, 0.6))
    wrapper.write_text(WRAPPER.format(ssh=shutil.which("ssh"), calls=folder, which=CALLS[call], cut=lie))
    wrapper.chmod(0o755)
    bench.env["HPC_SSH_BINARY"] = str(wrapper)
    exp = bench.experiment(large=call != "submit with the files")
    bench.submit_until(exp)
    return bench.judge(exp)


for _when in ("before", "during", "after"):
    for _call in CALLS:
        fault(f"ssh is cut {_when} the command: {_call}", tries=5, in_tests=_call in ("submit with the files", "push"))(
            functools.partial(cut, _when, _call)
        )


@fault("the sshd session dies while the node side submits", tries=5)
def session_dies(bench: Bench) -> Outcome:
    exp = bench.experiment()
    client = bench.client(exp, *bench.submit_words(exp))
    until(lambda: STEPS["the first intent is written"](bench, exp), 20, 0.001)
    for session in {session_of(pid) for pid in node_processes(bench.token)} - {0}:
        os.kill(session, signal.SIGKILL)
    client.wait(60)
    bench.submit_until(exp)
    return bench.judge(exp)


# -- masters ---------------------------------------------------------------------------------------------------------


def submitted(bench: Bench) -> Experiment:
    exp = bench.experiment(middle="sleep 1")
    bench.submit_until(exp)
    if not masters(bench.sockets):
        bench.found.wrong.append("no ssh master: this try proves nothing")
    return exp


@fault("the ssh master hangs", tries=3)
def master_hangs(bench: Bench) -> Outcome:
    exp = submitted(bench)
    for pid in masters(bench.sockets):
        os.kill(pid, signal.SIGSTOP)
    if not bench.status(exp, limit=25).ok:
        bench.found.wrong.append("status failed, though only the master hung")
    return bench.judge(exp)


@fault("the ssh master was killed and left its socket", tries=3)
def master_gone(bench: Bench) -> Outcome:
    exp = submitted(bench)
    for pid in masters(bench.sockets):
        os.kill(pid, signal.SIGKILL)
    if not bench.status(exp, limit=25).ok:
        bench.found.wrong.append("status failed, though only the master was gone")
    return bench.judge(exp)


@fault("a dead socket lies where the master's will be", tries=3, in_tests=False)
def dead_socket(bench: Bench) -> Outcome:
    exp = submitted(bench)
    [path] = [path for path in Path(bench.sockets).glob("*/*") if path.is_socket()]
    for pid in masters(bench.sockets):
        os.kill(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    return bench.judge(exp)


@fault("the runtime folder's path is too long for a socket", tries=2)
def long_path(bench: Bench) -> Outcome:
    folder = bench.folder / ("long" * 30)
    folder.mkdir()
    bench.env["XDG_RUNTIME_DIR"] = str(folder)
    exp = bench.experiment()
    bench.submit_until(exp)
    return bench.judge(exp)


# -- sshd ------------------------------------------------------------------------------------------------------------


def stop_sshd(bench: Bench) -> None:
    """Stop the daemon; it is gone when nothing accepts on its port any more."""
    os.kill(int(pid_file(f"{bench.site.scheduler}-sshd").read_text()), signal.SIGTERM)
    words = Path(bench.site.cluster["ssh_config"]).read_text().split()
    port = int(words[words.index("Port") + 1])

    def accepts() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    if not until(lambda: not accepts(), 20):
        bench.found.wrong.append("sshd does not stop: this try proves nothing")


@fault("sshd is gone for a while, mid-run", tries=2, stops_daemons=True)
def sshd_gone(bench: Bench) -> Outcome:
    bench.env["HPC_NO_SSH_MULTIPLEX"] = "1"
    exp = bench.experiment(middle="sleep 3")
    other = bench.experiment()
    bench.submit_until(exp)
    try:
        stop_sshd(bench)
        for answer in (bench.status(exp), bench.submit(other)):
            if answer.error != "ssh_unreachable":
                bench.found.wrong.append(f"without sshd: {answer}")
    finally:
        bring_back(bench.site.scheduler)
    bench.submit_until(other)
    return bench.judge(exp).add(bench.judge(other))
