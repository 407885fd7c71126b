"""How long TAB takes in bash, zsh and fish: the budget is 30 ms.

    python benchmarks/tab.py [ROUNDS]

bash and fish time their own completion function; zsh completes on a terminal of its own, from the key to the new line. The names
that TAB offers are as many as the cache ever holds. A shell that is not installed is left out.
"""

import os
import pty
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpc_agent.cli.completion import SCRIPTS, SHELLS
from hpc_agent.cli.completion.names import KEPT

BUDGET_MS = 30
LINES = [
    "hpc-agent ",
    "hpc-agent submit --",
    "hpc-agent submit --clu",
    "hpc-agent status --run-id ",
    "hpc-agent submit --cluster s",
]
BASH = """source {script}; compopt() {{ :; }}; COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
for ((i = 0; i < {rounds}; i++)); do
    begun=${{EPOCHREALTIME/[.,]/}}; _hpc_agent; ended=${{EPOCHREALTIME/[.,]/}}; echo $((ended - begun))
done"""
FISH = """source {script}; complete -C '{line}' >/dev/null
for i in (seq {rounds})
    set -l begun (date +%s%N); complete -C '{line}' >/dev/null; set -l ended (date +%s%N); echo $begun $ended
end"""


def make_home(folder: Path) -> dict[str, str]:
    names = folder / ".cache" / "hpc-agent" / "completion"
    names.mkdir(parents=True)
    (names / "runs").write_text("".join(f"ridge-{number:08x}\n" for number in range(KEPT)))
    (names / "clusters").write_text("local\nslurm-site\n")
    return {"HOME": str(folder), "PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def in_bash(line: str, rounds: int, env: dict[str, str]) -> list[float]:
    words = " ".join(f"'{word}'" for word in line.split(" "))
    script = BASH.format(script=SCRIPTS / SHELLS["bash"], words=words, rounds=rounds)
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=env, cwd=env["HOME"], capture_output=True, text=True, check=True
    )
    return [int(text) / 1000 for text in done.stdout.split()]


def in_fish(line: str, rounds: int, env: dict[str, str]) -> list[float]:
    script = FISH.format(script=SCRIPTS / SHELLS["fish"], line=line, rounds=rounds)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=env, cwd=env["HOME"], capture_output=True, text=True, check=True
    )
    spans = [row.split() for row in done.stdout.splitlines()]
    # two starts of date are in it: less is the truth
    return [(int(ended) - int(begun)) / 1e6 for begun, ended in spans]


def in_zsh(line: str, rounds: int, env: dict[str, str]) -> list[float]:
    process, screen = pty.fork()
    if not process:
        os.chdir(env["HOME"])
        os.execvpe("zsh", ["zsh", "-f", "-i"], env)

    def until(mark: bytes) -> None:
        shown = b""
        while mark not in shown:
            assert select.select([screen], [], [], 60)[0], shown
            shown += os.read(screen, 65536)

    # a widget that completes without a list on the screen and says when it is done
    os.write(screen, f"autoload -Uz compinit; compinit -u -D; source {SCRIPTS / SHELLS['zsh']}\n".encode())
    os.write(screen, b"zmodload zsh/datetime; timed() { local b=$EPOCHREALTIME; zle complete-word; local e=$EPOCHREALTIME; "
                     b"print -n \"took=$(( (e - b) * 1000 ))=$BUFFER=\"; BUFFER=; }\n")  # fmt: skip
    os.write(screen, b"LISTMAX=1000; zle -N timed; bindkey '^T' timed; echo rea''dy\n")
    until(b"ready")
    found = []
    for _ in range(rounds):
        os.write(screen, line.encode() + b"\x14")
        shown = b""
        while shown.rpartition(b"took=")[2].count(b"=") < 2:
            assert select.select([screen], [], [], 60)[0], shown
            shown += os.read(screen, 65536)
        took, completed = shown.split(b"took=")[1].split(b"=")[:2]
        assert not line.endswith("--clu") or completed.endswith(b"--cluster "), completed
        found.append(float(took))
        os.write(screen, b"\x15")
        time.sleep(0.02)
    os.close(screen)
    os.waitpid(process, 0)
    return found


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    within = True
    print(f"{'line'.ljust(30)} {'shell':5}   median      max")
    with tempfile.TemporaryDirectory() as folder:
        env = make_home(Path(folder))
        for shell, measure in (("bash", in_bash), ("zsh", in_zsh), ("fish", in_fish)):
            if not shutil.which(shell):
                print(f"{shell}: not installed")
                continue
            for line in LINES:
                times = measure(line, rounds, env)
                middle = statistics.median(times)
                within = within and middle <= BUDGET_MS
                print(
                    f"{line.ljust(30)} {shell:5} {middle:6.1f} ms {max(times):6.1f} ms {'ok' if middle <= BUDGET_MS else 'OVER'}"
                )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
