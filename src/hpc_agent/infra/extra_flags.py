"""Check ``extra_flags``, the words that a user adds to the command line of sbatch or qsub.

An option that hpc-agent sets itself (array, job name, environment, output) would break exactly-once submission and
status; the scheduler would take a word that is no option for the job script.
"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Mapping, Sequence

from hpc_agent.errors import SpecInvalid
from hpc_agent.node.shared.processes import PASSED_ON

SLURM_LONG = tuple(
    "array batch bell chdir clusters cluster-constraint comment dependency error export export-file get-user-env help "
    "input job-name jobid kill-on-invalid-dep open-mode output parsable quiet test-only usage version wait wrap".split()
)
SLURM_SHORT = tuple("aDdehiJMoQVW")
SGE_OWNED = tuple(
    "-t -N -v -V -o -e -j -i -wd -cwd -hold_jid -hold_jid_ad -terse -sync -now -b -clear -help -verify -w -S -C -shell "
    "-pty -inherit -@ -h -a".split()
)
_OWNED = "hpc-agent sets it, or it changes the answer of {}"
_GRACE = "HPC_PREEMPT_GRACE_SEC"
_SIGNAL = re.compile(r"(?P<to>[RB]*):?(?P<signal>[A-Z0-9]*)(?:@(?P<seconds>[0-9]+))?", re.IGNORECASE)


def check_extra_flags(scheduler: str, words: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Raises SpecInvalid, which names the word. A scheduler of another package checks its own flags.

    ``env``: the variables of the run.
    """
    for before, word in itertools.pairwise(["", *words]):
        if scheduler == "slurm":
            _check_signal(word, env or {})
        why = _why_refused(scheduler, word, before)
        if why:
            raise SpecInvalid(
                f"extra_flags: {word!r} is not allowed: {why}",
                field="extra_flags",
                remediation="Take the word out of extra_flags; 'hpc-agent describe submit' has fields for partition, account, "
                "time, memory and more.",
            )


def _why_refused(scheduler: str, word: str, before: str) -> str:
    if "\0" in word or "\n" in word:
        return "no option holds NUL or newline"
    if scheduler == "local":
        return "the local scheduler has no further flags"
    option = word.startswith("-")
    if scheduler == "slurm":
        if not option or word in ("-", "--"):
            return "write an option and its value as one word: --reservation=x"
        # sbatch takes any unambiguous beginning of a long option for the whole option
        long = word.startswith("--") and any(owned.startswith(word[2:].partition("=")[0]) for owned in SLURM_LONG)
        return _OWNED.format("sbatch") if long or word[1] in SLURM_SHORT else ""
    if scheduler == "sge":
        if option:
            return _OWNED.format("qsub") if word in SGE_OWNED else ""
        # One value may follow an option, and it may not be a path.
        return "qsub would take it for the job script" if not before.startswith("-") or "/" in word else ""
    return ""


def _check_signal(word: str, env: Mapping[str, str]) -> None:
    """Raises SpecInvalid for a signal of SLURM that would not reach the executor as the user expects."""
    option, _, value = word.partition("=")
    if len(option) < len("--si") or not "--signal".startswith(option):
        return
    match = _SIGNAL.fullmatch(value)
    name = match["signal"].upper().removeprefix("SIG") if match else ""
    if match and name.isdigit():
        name = next((known.name[3:] for known in signal.Signals if known == int(name)), name)
    seconds = (match and match["seconds"]) or "60"
    passed = [number.name[3:] for number in PASSED_ON if number != signal.SIGXCPU]  # which --signal cannot name
    mended = f"--signal=B:{name if name in passed else 'USR1'}@{seconds}"
    if match is None or name not in [*passed, "TERM"]:
        why = f"hpc-agent passes on no signal but {', '.join(passed)} and TERM"
    elif "B" not in match["to"].upper():
        why = "without B: SLURM signals job steps alone, and the executor runs in the batch step"
    elif name == "TERM" and _GRACE not in env:
        why = f"after SIGTERM the executor has {_GRACE} (10) seconds, not the {seconds} of this flag"
        mended += f", or set {_GRACE} in env as well"
    else:
        return
    raise SpecInvalid(f"extra_flags: {word!r}: {why}", field="extra_flags", remediation=f"Write {mended}.")
