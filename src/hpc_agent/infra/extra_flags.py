"""``extra_flags``: what a user may add to the submission's command line, and what belongs to hpc-agent.

A word that hpc-agent sets itself (the array, the job's name, its environment, its output) would take the ground from
under exactly-once submission and status; a word that is no option would be taken for the job script.
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


def check_extra_flags(scheduler: str, words: Sequence[str]) -> None:
    """Raises SpecInvalid naming the word. Another package's scheduler judges its own."""
    if any("\0" in word or "\n" in word for word in words):
        raise _refused("a word with NUL or newline", "no option holds one")
    if scheduler == "local" and words:
        raise _refused(words[0], "the local scheduler has no further flags")
    if scheduler == "slurm":
        _check_slurm(words)
    if scheduler == "sge":
        _check_sge(words)


def _check_slurm(words: Sequence[str]) -> None:
    """One word an option (``--reservation=x``, ``-Cbig``), so that none can be taken for the script."""
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            raise _refused(word, "write an option and its value as one word: --reservation=x")
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            # sbatch takes any unambiguous beginning of a long option for the whole of it
            if any(owned.startswith(name) for owned in SLURM_LONG):
                raise _refused(word, "hpc-agent sets it, or it changes what sbatch answers")
        elif word[1] in SLURM_SHORT:
            raise _refused(word, "hpc-agent sets it, or it changes what sbatch answers")


def _check_sge(words: Sequence[str]) -> None:
    """An option may be followed by one value; a value may not be a path, which could be the script."""
    follows_option = False
    for word in words:
        if word.startswith("-"):
            if word in SGE_OWNED:
                raise _refused(word, "hpc-agent sets it, or it changes what qsub answers")
            follows_option = True
            continue
        if not follows_option or "/" in word:
            raise _refused(word, "it would be taken for the job script")
        follows_option = False


def _refused(word: str, why: str) -> SpecInvalid:
    return SpecInvalid(
        f"extra_flags: {word!r} is not allowed: {why}",
        field="extra_flags",
        remediation="Take it out; 'hpc-agent describe submit' has fields for partition, account, time, memory and more.",
    )
