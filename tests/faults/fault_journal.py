"""Journals that are torn, commands that meet, repos that change under a run, limits that others use up."""

from __future__ import annotations

import threading
from pathlib import Path

from experiment import listed, write
from fault_bench import Answer, Bench, Experiment, until
from faults import SCHEDULERS, Outcome, fault

from hpc_agent.errors import JournalCorrupt
from hpc_agent.state.journal import Journal
from hpc_agent.state.repo_files import RepoLayout
from hpc_agent.world import World

EVERYWHERE = ("local", *SCHEDULERS)
SAMPLED = 6


def journal_of(bench: Bench, exp: Experiment) -> tuple[Journal, Path]:
    [path] = bench.journals()
    return Journal(World(cwd=exp.repo, env=bench.env), RepoLayout(exp.repo)), path


@fault("the journal's last line is torn at every byte", EVERYWHERE, tries=2)
def torn(bench: Bench) -> Outcome:
    """Every prefix is read, and added to, as if the torn line had never been; some meet the whole command line."""
    exp = bench.experiment()
    bench.submit_until(exp)
    bench.finish(exp)
    journal, path = journal_of(bench, exp)
    whole = path.read_bytes()
    folded: dict[int, tuple[list[str], str]] = {}
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        known = journal.load(path.stem)
        if lines in folded and (known.job_ids, known.status) != folded[lines]:
            bench.found.wrong.append(f"{length} bytes of the journal give {known.job_ids}, {known.status}")
        folded.setdefault(lines, (known.job_ids, known.status))
        journal.append(path.stem, "probe")
        if path.read_bytes().count(b"\n") != lines + 1 or journal.load(path.stem).job_ids != known.job_ids:
            bench.found.wrong.append(f"after {length} bytes an event was not added properly")
    if not folded[whole.count(b"\n")][0] or folded[1][0]:
        bench.found.wrong.append(f"job ids by the number of whole lines: {folded}")
    ends = [0, *(position + 1 for position, byte in enumerate(whole) if byte == ord("\n"))]
    lengths = {*ends, *bench.dice.sample(range(len(whole)), SAMPLED)}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        _no_second_run(bench, exp, length)
    return bench.judge(exp)


def _no_second_run(bench: Bench, exp: Experiment, length: int) -> None:
    """Status and submit on what is left of the journal: they work or say that it is damaged."""
    look = bench.status(exp)
    if not look.ok and look.error not in ("run_not_found", "journal_corrupt", "precondition_failed"):
        bench.found.wrong.append(f"status on {length} bytes: {look}")
    answer = bench.submit(exp)
    if not answer.ok and answer.error != "journal_corrupt":
        bench.found.wrong.append(f"submit on {length} bytes: {answer}")


@fault("a line in the middle of the journal is damaged", EVERYWHERE, tries=2)
def damaged(bench: Bench) -> Outcome:
    exp = bench.experiment()
    bench.submit_until(exp)
    journal, path = journal_of(bench, exp)
    whole = path.read_bytes()
    path.write_bytes(b"x" * 10 + whole[10:])
    for answer in (bench.status(exp), bench.submit(exp)):
        if answer.error != "journal_corrupt":
            bench.found.wrong.append(f"a damaged journal: {answer}")
    try:
        journal.load(path.stem)
        bench.found.wrong.append("a damaged journal was read")
    except JournalCorrupt:
        pass
    path.rename(path.with_name("broken"))  # as the remediation says
    bench.submit_until(exp)
    return bench.judge(exp)


@fault("the journal and the sidecar are lost", EVERYWHERE, tries=3)
def lost_journal(bench: Bench) -> Outcome:
    exp = bench.experiment()
    bench.submit_until(exp)
    for path in [*bench.journals(), *exp.repo.glob(".hpc/runs/*")]:
        path.unlink()
    bench.submit_until(exp)
    return bench.judge(exp)


# -- commands that meet ----------------------------------------------------------------------------------------------


def together(calls: list) -> list[Answer]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda call=call: answers.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    return answers


@fault("two clients submit the same run at once", EVERYWHERE, tries=5)
def twins(bench: Bench) -> Outcome:
    exp = bench.experiment()
    answers = together([lambda: bench.submit(exp)] * 2)
    for answer in answers:
        if not answer.ok:
            bench.found.wrong.append(f"one of two at once: {answer}")
    if len({tuple(answer.data.get("job_ids", ())) for answer in answers}) != 1:
        bench.found.wrong.append(f"two at once have different jobs: {answers}")
    return bench.judge(exp)


@fault("two machines submit the same run at once", SCHEDULERS, tries=5)
def two_machines(bench: Bench) -> Outcome:
    """The same repo and two homes: no lock on this side keeps them apart, only the one on the cluster."""
    exp = bench.experiment()
    other = bench.folder / "other-home"
    other.mkdir(mode=0o700)
    answers = together([lambda: bench.submit(exp), lambda: bench.submit(exp, env={"HOME": str(other)})])
    bench.submit_until(exp)
    for answer in answers:
        if not answer.ok and answer.code != 2 and answer.error != "precondition_failed":
            bench.found.wrong.append(f"one of two machines: {answer}")
    return bench.judge(exp)


@fault("two different runs are submitted at once", EVERYWHERE, tries=5)
def two_runs(bench: Bench) -> Outcome:
    one = bench.experiment()
    two = bench.experiment()
    for answer in together([lambda: bench.submit(one), lambda: bench.submit(two)]):
        if not answer.ok:
            bench.found.wrong.append(f"one of two runs: {answer}")
    return bench.judge(one).add(bench.judge(two))


# -- what changes under a run ----------------------------------------------------------------------------------------


@fault("the repo is edited under a queued array", EVERYWHERE, tries=3)
def edited(bench: Bench) -> Outcome:
    """What was submitted is what runs; with the repo as it was, the same command finds the run again."""
    gate = bench.scratch / "seen" / "gate"
    exp = bench.experiment(middle=f"until [ -e {gate} ]; do sleep 0.1; done")
    bench.submit_until(exp)
    script, tasks = exp.repo / "work.sh", exp.repo / ".hpc" / "tasks.py"
    before = script.read_text(), tasks.read_text()
    write(script, "exit 7\n")
    write(tasks, listed([{"x": 99}] * 2))
    gate.touch()
    bench.finish(exp)
    write(script, before[0])
    write(tasks, before[1])
    return bench.judge(exp)


@fault("the user's job limit is eaten by other jobs", ("slurm-ssh",), tries=3)
def limit_eaten(bench: Bench) -> Outcome:
    """QOS tiny allows ten submitted elements; eight sleep. Nothing is lost, nothing twice, in the end all is complete."""
    others = ("sbatch", "--parsable", "--qos=tiny", "--array=0-7", "--mem=16", "--output=/dev/null", "--wrap=sleep 10")
    queued = bench.site.run(*others)
    if queued.returncode:
        bench.found.wrong.append(f"the bed refused the other jobs: {queued.stderr}")
    exp = bench.experiment(flags=("--qos", "tiny"))
    bench.submit_until(exp, 150)
    until(lambda: exp.done == exp.tasks, 5)
    bench.finish(exp, 150)
    bench.submit_until(exp)
    return bench.judge(exp)
