"""An agent harness: start a command, read its one line of JSON, let the agent choose the next command.

    python3 agent_harness.py REPO hpc-agent submit --cluster local --executor 'python3 .hpc/cli.py'
"""

import json
import shlex
import subprocess
import sys
import time


def call(command, repo):
    """Return the envelope of one command. What is safe to repeat is repeated after a pause."""
    for pause in (10, 60, 300, 0):
        done = subprocess.run(command, cwd=repo, stdout=subprocess.PIPE, text=True)
        answer = json.loads(done.stdout)
        if answer["ok"] or not answer["retry_safe"] or not pause:
            return answer
        time.sleep(pause)


def decide(answer):
    """Return the next command, or None. Put your model here; this one does what the answer proposes."""
    if not answer["ok"]:
        return None
    return shlex.split(answer["data"].get("next_step", "")) or None


def drive(command, repo, steps=20):
    """Go on until the agent has nothing left to do, ``steps`` commands at most; return the last answer."""
    while command and steps:
        sys.stderr.write(f"$ {shlex.join(command)}\n")
        answer = call(command, repo)
        command, steps = decide(answer), steps - 1
    return answer


if __name__ == "__main__":
    outcome = drive(sys.argv[2:], sys.argv[1])
    print(json.dumps(outcome, indent=1))
    sys.exit(not outcome["ok"])
