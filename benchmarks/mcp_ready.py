"""How soon ``hpc-agent mcp`` is ready: from the start of the process to the answer of the first tools/list. Budget: 1 s.

    python benchmarks/mcp_ready.py [RUNS]

Also the bytes of that list, for a server that may submit and for one that may not, and the CPU time of the process: on a busy
machine it says how much of the wait was the machine's.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

BUDGET_SEC = 1.0
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
QUESTION = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(*options: str) -> tuple[float, float, dict]:
    begun, before = time.perf_counter(), cpu_of_children()
    server = subprocess.Popen(
        [sys.executable, "-m", "hpc_agent", "mcp", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    server.stdin.write(json.dumps(QUESTION).encode() + b"\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    took = time.perf_counter() - begun
    server.stdin.close()
    server.wait()
    return took, cpu_of_children() - before, answer["result"]


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    worst = 0.0
    for options in ((), ("--allow-submit",)):
        times, cpu = [], []
        for _ in range(runs):
            took, used, listed = ask(*options)
            times.append(took)
            cpu.append(used)
        tokens = len(json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()) / 4
        middle = statistics.median(times)
        worst = max(worst, middle)
        print(f"mcp {' '.join(options):<15} ready in {middle:.2f} s (least {min(times):.2f}, CPU {statistics.median(cpu):.2f}), "
              f"{len(listed['tools'])} tools, {tokens:,.0f} tokens")  # fmt: skip
    print(f"budget {BUDGET_SEC:.2f} s: {'kept' if worst <= BUDGET_SEC else 'broken'}")
    return worst > BUDGET_SEC


if __name__ == "__main__":
    sys.exit(main())
