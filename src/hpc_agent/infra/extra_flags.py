"""Check ``extra_flags``, the words that a user adds to the command line of sbatch or qsub.

An option that hpc-agent sets itself (array, job name, environment, output) would break exactly-once submission and
status; the scheduler would take a word that is no option for the job script.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpc_agent.errors import SpecInvalid

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


def check_extra_flags(scheduler: str, words: Sequence[str]) -> None:
    """Raises SpecInvalid, which names the word. A scheduler of another package checks its own flags."""
    odd = next(((word, "no option holds NUL or newline") for word in words if "\0" in word or "\n" in word), None)
    if scheduler == "local" and words:
        odd = words[0], "the local scheduler has no further flags"
    checks = {"slurm": _odd_slurm_word, "sge": _odd_sge_word}
    if odd is None and scheduler in checks:
        odd = checks[scheduler](words)
    if odd is not None:
        raise SpecInvalid(
            f"extra_flags: {odd[0]!r} is not allowed: {odd[1]}",
            field="extra_flags",
            remediation="Take the word out of extra_flags; 'hpc-agent describe submit' has fields for partition, account, "
            "time, memory and more.",
        )


def _odd_slurm_word(words: Sequence[str]) -> tuple[str, str] | None:
    """Return the first word that may not be given, and why. Each word is one option: ``--reservation=x``, ``-Cbig``."""
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            return word, "write an option and its value as one word: --reservation=x"
        # sbatch takes any unambiguous beginning of a long option for the whole option
        long = word.startswith("--") and any(owned.startswith(word[2:].partition("=")[0]) for owned in SLURM_LONG)
        if long or word[1] in SLURM_SHORT:
            return word, _OWNED.format("sbatch")
    return None


def _odd_sge_word(words: Sequence[str]) -> tuple[str, str] | None:
    """Return the first word that may not be given, and why. One value may follow an option, and it may not be a path."""
    follows_option = False
    for word in words:
        option = word.startswith("-")
        if option and word in SGE_OWNED:
            return word, _OWNED.format("qsub")
        if not option and (not follows_option or "/" in word):
            return word, "qsub would take it for the job script"
        follows_option = option
    return None
