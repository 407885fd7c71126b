"""Measure the machine's floor: seconds of posix_spawn of ``true``, and of a fork, in turn. Imports next to nothing, for a fork
costs more where more memory is mapped."""

import os
import time

ROUNDS, EACH = 5, 100


def spawn():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def each(act):
    begun = time.perf_counter()
    for _ in range(EACH):
        act()
    return (time.perf_counter() - begun) / EACH


for _ in range(ROUNDS):
    print(each(spawn), each(fork))
