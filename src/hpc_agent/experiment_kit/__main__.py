"""The command of scripts in other languages: ``python3 -m hpc_agent.experiment_kit report --step 3 --value 0.2``.

Exit code 0: go on; 10: stop, other tasks are better; 2: the command line is wrong.
"""

import argparse
import sys
from typing import List

from .early_stop import STOP_EXIT, report, should_stop


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hpc_agent.experiment_kit")
    commands = parser.add_subparsers(dest="command", metavar="report")
    commands.required = True
    words = commands.add_parser("report", help="tell a value; exit code %d: stop, 0: go on" % STOP_EXIT)
    words.add_argument("--step", type=int, required=True, help="epoch, iteration: a whole number from 0 on")
    words.add_argument("--value", type=_number, required=True, help="of the metric; NaN and NA count as the worst")
    given = parser.parse_args(_joined(sys.argv[1:]))
    if given.step < 0:
        parser.error("argument --step: %d is below 0" % given.step)
    report(given.step, given.value)
    return STOP_EXIT if should_stop() else 0


def _number(text: str) -> float:
    return float("nan" if text == "NA" else text)  # R's missing value


def _joined(words: List[str]) -> List[str]:
    """Return the words with ``--value -1e-5`` as one: argparse takes such a number for an option."""
    for place in range(len(words) - 2, -1, -1):
        if words[place] == "--value":
            words[place : place + 2] = ["--value=" + words[place + 1]]
    return words


if __name__ == "__main__":
    sys.exit(main())
