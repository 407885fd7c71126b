"""Checks from the facts that a login node told about itself: shell, commands, Python, clock, locale, modules."""

from __future__ import annotations

import re

from hpc_agent.infra.probe import Facts
from hpc_agent.infra.ssh_causes import START_UP_FILES
from hpc_agent.ops.setup.report import Check, Place, listing, ok, red, unknown, warn

OLDEST_PYTHON = (3, 6)
# More than this and times of jobs, records and files cannot be compared; node/schedulers/base.py allows as much.
SKEW_RED_SEC, SKEW_WARN_SEC = 300.0, 60.0
# Without these of a scheduler nothing is submitted or seen; without the others of its tools less is known of a job's end.
NEEDED = {"slurm": {"sbatch", "squeue", "sinfo", "scontrol"}, "sge": {"qsub", "qstat"}}


def login_shell(facts: Facts, place: Place) -> Check:
    """Check that the shell prints nothing before a command: rsync takes that for its own protocol, and fails."""
    shell = facts.get("login_shell")
    name = shell.rpartition("/")[2]
    files = START_UP_FILES.get(name, "its start-up files")
    printed = " ".join(facts.noise[0].split())
    if printed and place.target:
        detail = f"{shell} prints text before every command, and rsync needs a silent shell: {printed[:100]!r}"
        remedy = f"Put this line first in the start-up file there ({files}); what comes after it is for terminals only:"
        return red("login_shell", detail, remedy, place.before_start_up(*_stop_line(name)))
    said = " ".join(facts.noise[1].split())
    return ok("login_shell", f"{shell or 'not told'}, silent" + (f" but for {said[:100]!r} on stderr" if said else ""))


def _stop_line(shell: str) -> tuple[str, str]:
    """Return the line that ends a start-up file where nobody types, and the file."""
    if shell in ("tcsh", "csh"):
        return "if (! $?prompt) exit", ".cshrc"
    if shell == "fish":
        return "status is-interactive; or exit", ".config/fish/config.fish"
    return "case $- in *i*) ;; *) return ;; esac", ".zshenv" if shell == "zsh" else ".bashrc"


def shell_init(facts: Facts, place: Place) -> list[Check]:
    file = place.cluster.shell_init
    if not file:
        return []
    state = facts.get("init")
    if state == "ok":
        return [ok("shell_init", f"{file} is sourced")]
    what = "cannot be read there" if state == "missing" else "ends the shell that sources it (exit, exec, or an error)"
    remedy = f"Correct 'shell_init' under '{place.cluster.name}:' in {place.file}, or the file; this shows it:"
    return [red("shell_init", f"{file} {what}", remedy, place.there(f"cat {file}"))]


def commands(facts: Facts, place: Place) -> Check:
    """Check the scheduler's commands on the PATH of the shell that runs hpc-agent's commands, which nobody types into."""
    scheduler = place.cluster.scheduler
    tools = facts.missing_and_found()
    if scheduler == "local":
        return ok("scheduler_commands", "the local scheduler needs none")
    if not tools[0] and not tools[1]:
        return unknown("scheduler_commands", f"the commands of '{scheduler}' are known to its own package")
    version = facts.get(f"version.{scheduler}")
    missing = [tool for tool in tools[0] if tool in NEEDED[scheduler]]
    if not missing:
        folder = facts.get(f"tool.{tools[1][0]}").rpartition("/")[0]
        detail = f"{listing(tools[1])} in {folder}" + (f" ({version})" if version else "")
        if tools[0]:
            detail += f"; not {listing(tools[0])}: what jobs used and why they ended is told less exactly"
            return warn("scheduler_commands", detail, *_way_to(tools[0][0], facts, place))
        return ok("scheduler_commands", detail)
    shell = facts.get("login_shell")
    detail = f"{listing(missing)} not found by {shell} when nobody types (PATH {facts.get('path')})"
    return red("scheduler_commands", detail, *_way_to(missing[0], facts, place))


def _way_to(tool: str, facts: Facts, place: Place) -> tuple[str, str]:
    """Return remedy and line for a command that is not found."""
    file, folder = facts.get(f"by.{tool}"), facts.get(f"in.{tool}")
    if file:
        return f"{file} there makes it known. {place.setting}", f"shell_init: {file}"
    if folder:
        remedy = f"It is in {folder}. Put that on the PATH of the login shell there:"
        return remedy, place.on_the_path(folder, facts.get("login_shell"))
    remedy = (
        "It is in no usual folder. Ask the site for the file that makes it known, and set 'shell_init: FILE' under "
    )
    remedy += f"'{place.cluster.name}:' in {place.file}. What an interactive shell knows:"
    return remedy, place.there(f"bash -ilc 'type {tool}; echo $PATH'")


def python(facts: Facts, place: Place) -> Check:
    wanted, about = place.cluster.python, facts.get("python.about")
    version = re.match(r"(\d+)\.(\d+)\.\d+ \S+ (\S+)", about)
    if version and (int(version[1]), int(version[2])) >= OLDEST_PYTHON:
        return ok("python", f"{about.split()[0]}, {version[3]}")
    if not facts.get("python"):
        detail = f"'{wanted}' is not found there (PATH {facts.get('path')})"
    elif version:
        detail = f"'{wanted}' is Python {about.split()[0]}, and hpc-agent needs 3.6 or newer"
    else:
        detail = f"'{wanted}' does not start: {about[:200]}"
    folder = next((f for f in facts.all("in.python3") if f"{f}/python3" not in (wanted, facts.get("python"))), "")
    if folder:
        return red("python", detail, place.setting, f"python: {folder}/python3")
    remedy = "Find one of 3.6 or newer (the site may have a module for it) and set 'python' to its whole path under "
    remedy += f"'{place.cluster.name}:' in {place.file}. This looks for one:"
    look = "bash -lc 'ls -d /usr/bin/python3* /opt/*/bin/python3* ~/*conda*/bin/python3; module -t avail python'"
    return red("python", detail, remedy, place.there(look))


def rsync_there(facts: Facts, place: Place) -> Check | None:
    """Return a red check where the login shell there finds no rsync; None where it does."""
    if facts.get("rsync"):
        return None
    folder, shell = facts.get("in.rsync"), facts.get("login_shell")
    detail = (
        f"rsync is not found by {shell} when nobody types (PATH {facts.get('path')}); shell_init does not count for it"
    )
    if folder:
        remedy = f"It is in {folder}. Put that on the PATH of the login shell there:"
        return red("rsync", detail, remedy, place.on_the_path(folder, shell))
    remedy = "Ask the site to install rsync, or put one into ~/bin there; this line must answer:"
    return red("rsync", detail, remedy, place.there("rsync --version"))


def clock(facts: Facts, place: Place) -> Check:
    there = facts.get("time")
    if not there.isdigit():
        return unknown("clock", "'date' told no time there")
    # The second that was told lies between question and answer, where both clocks agree.
    skew = max(0.0, int(there) - facts.answered, facts.asked - int(there) - 1)
    ahead = "ahead of" if int(there) > facts.answered else "behind"
    if skew < SKEW_WARN_SEC:
        return ok("clock", "agrees with this machine's" if skew < 2 else f"{skew:.0f} s {ahead} this machine's")
    detail = f"the clock there is {skew:.0f} s {ahead} this machine's"
    remedy = "Set the wrong one of the two clocks; this shows both:"
    line = f"date -u; {place.there('date -u')}"
    return (red if skew > SKEW_RED_SEC else warn)("clock", detail, remedy, line)


def locale(facts: Facts, place: Place) -> Check:
    words = facts.get("python.about").split()
    told = facts.get("locale") or "none set"
    if len(words) < 3:
        return unknown("locale", f"{told}; without Python it is not known which names of files can be used")
    if words[1].lower().replace("-", "") == "utf8":
        return ok("locale", f"{told}; Python reads names of files as UTF-8")
    remedy = "Names of files that are no ASCII fail there. Put this line first in the start-up file of the login shell:"
    shell = facts.get("login_shell").rpartition("/")[2]
    csh = shell in ("tcsh", "csh")
    line = "setenv LC_ALL C.UTF-8" if csh else "export LC_ALL=C.UTF-8"
    return warn(
        "locale",
        f"{told}; Python reads names of files as {words[1]}",
        remedy,
        place.before_start_up(line, ".cshrc" if csh else ".bashrc"),
    )


def modules(facts: Facts, place: Place) -> Check:
    """Check with the job template itself what a job would find."""
    cluster, environment, system = place.cluster, facts.get("environment"), facts.get("module_system")
    wanted = [*cluster.modules, *(f"conda {name}" for name in cluster.conda_envs[:1])]
    has = bool(system) and "no 'module' command" not in system
    if wanted and environment == "ok":
        return ok("modules", f"{listing(wanted)}: loaded as a job would")
    if wanted:
        remedy = f"Correct 'modules', 'conda_source' or 'conda_envs' under '{cluster.name}:' in {place.file}; "
        remedy += "this shows what there is:"
        line = "bash -lc 'module avail'" if cluster.modules else "bash -lc 'conda env list'"
        return warn(
            "modules", f"a job's environment fails: {environment or 'bash told no reason'}", remedy, place.there(line)
        )
    if not system:
        return unknown("modules", "bash told nothing about modules")
    return ok(
        "modules",
        "there are environment modules; none is configured"
        if has
        else "jobs find no module system, and none is configured",
    )
