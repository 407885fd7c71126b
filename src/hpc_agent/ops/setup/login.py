"""The way to a login: programs and keys of this machine, and at which step a login failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hpc_agent.errors import ClusterTimeout, HpcError, SshUnreachable
from hpc_agent.infra.ssh_causes import TYPED
from hpc_agent.infra.transport import run_bounded
from hpc_agent.ops.setup.report import NOT_LOOKED, Check, Place, ok, red, unknown, warn
from hpc_agent.world import World

_ASK_SEC = 5.0
# The steps of a login in their order, and the words of ssh that say which one failed.
_STEPS = {
    "ssh_program": r"Bad configuration option|Bad owner or permissions|Can't open user config"
    r"|^\S+ line \d+: |is not installed here",
    "address": r"Could not resolve hostname|Name or service not known",
    "port": r"connect to (?:host|address)|timed out|No route to host|Network is unreachable|Connection refused"
    r"|kex_exchange|banner exchange|Connection (?:closed|reset) by (?!remote host\.)|did not finish a command",
    "host_key": r"Host key verification failed|host'?s? key|no matching host key",
    "login": r"",
}
_INSTALL = {"apt-get": "sudo apt-get install {}", "dnf": "sudo dnf install {}", "brew": "brew install {}"}
_PACKAGES = {"ssh": "openssh-client", "rsync": "rsync"}
_COMMAND = re.compile(r"'((?:ssh-keygen|ssh|chmod|kinit)\b[^']*)'|`((?:ssh-keygen|ssh|chmod|kinit)\b[^`]*)`")


def program(name: str, world: World) -> Check:
    """Check that a program of this machine is on the PATH."""
    path = shutil.which(name, path=world.env.get("PATH"))
    label = f"{name}_here"
    if path:
        return ok(label, path)
    managers = [line for manager, line in _INSTALL.items() if shutil.which(manager, path=world.env.get("PATH"))]
    line = (managers or [_INSTALL["apt-get"]])[0].format(_PACKAGES.get(name, name))
    return red(
        label, f"'{name}' is not on the PATH of this process", "Install it, or put its folder on the PATH:", line
    )


class Keys(NamedTuple):
    """The keys that ssh can offer: how many an agent holds (None: no agent), and files that open without a passphrase."""

    held: int | None
    socket: str
    open_files: list[Path]
    locked_files: list[Path]
    config: Mapping[str, list[str]]  # as ``ssh -G`` prints it

    def first(self, name: str) -> str:
        return next(iter(self.config.get(name, ())), "")


def keys_of(place: Place, world: World) -> Keys:
    """Return the keys for this host, by ``ssh -G`` and ``ssh-add -l``; nothing is connected to."""
    config: dict[str, list[str]] = {}
    for line in _output([*place.ssh, "-G", place.target], world.env)[1].splitlines():
        name, _, value = line.partition(" ")
        config.setdefault(name, []).append(value)
    agent = next(iter(config.get("identityagent", ())), "")
    agent = str(Path(agent).expanduser()) if agent.startswith(("/", "~")) else ""
    socket = agent or world.env.get("SSH_AUTH_SOCK", "")
    files = [_of_home(name, world.home) for name in config.get("identityfile", ())]
    present = [file for file in files if file.is_file()]
    unlocked = [file for file in present if _output(["ssh-keygen", "-y", "-P", "", "-f", str(file)], world.env)[0] == 0]
    return Keys(held_by(socket, world), socket, unlocked, [f for f in present if f not in unlocked], config)


def _of_home(name: str, home: Path) -> Path:
    return home / name[2:] if name.startswith("~/") else Path(name)


def held_by(socket: str, world: World) -> int | None:
    """Return the number of keys that the agent at a socket holds; None where no agent answers."""
    if not socket:
        return None
    code, out = _output(["ssh-add", "-l"], {**world.env, "SSH_AUTH_SOCK": socket})
    return len(out.splitlines()) if code == 0 else 0 if code == 1 else None


def _output(words: list[str], env: Mapping[str, str]) -> tuple[int, str]:
    try:
        done = run_bounded(words, b"", _ASK_SEC, env)
    except (OSError, ClusterTimeout):
        return -1, ""
    return done.code, done.stdout.decode(errors="replace")


def other_agent(keys: Keys, world: World) -> str:
    """Return the socket of an agent of this user that holds keys and that this process was not told of."""
    folder = Path(f"/run/user/{os.getuid()}")
    usual = [folder / name for name in ("keyring/ssh", "gcr/ssh", "ssh-agent.socket", "openssh_agent")]
    for candidate in [*usual, *sorted(world.home.glob(".ssh/agent/*")), *sorted(Path("/tmp").glob("ssh-*/agent.*"))]:  # noqa: S108
        with contextlib.suppress(OSError):
            own = candidate.is_socket() and candidate.stat().st_uid == os.getuid()
            if own and str(candidate) != keys.socket and held_by(str(candidate), world):
                return str(candidate)
    return ""


def agent_check(keys: Keys, world: World, *, accepted: bool | None) -> Check:
    """Check the agent. Without one a login may work all the same, by a key file that has no passphrase."""
    files = ", ".join(map(str, keys.open_files))
    if keys.held:
        return ok("ssh_agent", f"an agent holds {keys.held} key{'s' if keys.held > 1 else ''}")
    found = "SSH_AUTH_SOCK is not set in this environment" if not keys.socket else f"no agent answers at {keys.socket}"
    found = "the agent holds no key" if keys.held == 0 else found
    if accepted or files:
        how = f"the key file {files} opens without a passphrase" if files else "the login works without one"
        return ok("ssh_agent", f"{found}; {how}")
    if accepted is None:
        return warn("ssh_agent", f"{found}; whether a login needs one is not known")
    other = other_agent(keys, world)
    if other:
        remedy = "An agent of yours with keys does run. Tell this process (and the program that starts it) of it:"
        return red(
            "ssh_agent", f"{found}, and no key file opens without a passphrase", remedy, f"export SSH_AUTH_SOCK={other}"
        )
    if keys.locked_files:
        remedy = "Start an agent and give it your key; then start this program from that shell:"
        line = f'eval "$(ssh-agent -s)" && ssh-add {keys.locked_files[0]}'
        return red("ssh_agent", f"{found}, and {keys.locked_files[0]} needs a passphrase", remedy, line)
    remedy = "Make a key, give its public half to the site (the second line shows it), and start an agent with it:"
    line = 'ssh-keygen -t ed25519 && cat ~/.ssh/id_ed25519.pub && eval "$(ssh-agent -s)" && ssh-add'
    return red("ssh_agent", f"{found}, and this machine has no key file for the host", remedy, line)


def accepted(place: Place, keys: Keys, by_master: bool = False) -> list[Check]:
    """Return the checks of a login that worked."""
    name = keys.first("hostname") or place.target
    checks = [ok("address", name), ok("port", f"{name} port {keys.first('port') or '22'} answers")]
    checks.append(ok("host_key", "known, and the one that the host showed"))
    how = ", through a connection that a person opened: a new login wants a password or code" if by_master else ""
    return [*checks, ok("login", f"accepted as {_user(place, keys)}{how}")]


def refused(error: HpcError, place: Place, keys: Keys) -> list[Check]:
    """Return the checks of a login that failed: the steps before, the one that failed, and those that were not reached."""
    text = f"{error.message}\n{error.details.get('stderr_tail', '')}"
    failed = next(step for step, words in _STEPS.items() if re.search(words, text, re.MULTILINE))
    if not isinstance(error, (SshUnreachable, ClusterTimeout)) and failed != "ssh_program":
        failed = "login_shell"
    checks = []
    for step in [*_STEPS, "login_shell"]:
        if step == failed:
            checks.append(_failed(step, error, place, keys))
        elif failed in [check.name for check in checks]:
            checks.append(unknown(step, f"{NOT_LOOKED}: '{failed}' comes first"))
        elif step != "ssh_program":
            checks.append(ok(step, "this step of the login was passed"))
    return checks


def _failed(step: str, error: HpcError, place: Place, keys: Keys) -> Check:
    found = _COMMAND.search(error.remediation)
    line = (found.group(1) or found.group(2)) if found else ""
    detail, remedy = error.message, error.remediation
    methods = re.search(r"Permission denied \(([\w,@.-]+)\)", f"{detail}\n{error.details.get('stderr_tail', '')}")
    if step == "login" and methods and "accepted no key" in detail:
        return _no_key(detail, methods.group(1), place, keys)
    if step == "port":
        where = "~/.ssh/config" if not place.cluster.ssh_config else place.cluster.ssh_config_path(place.home)
        detail += f" (HostName {keys.first('hostname')}, Port {keys.first('port')})"
        remedy = f"Correct Port in {where} or 'host' under '{place.cluster.name}:' in {place.file}, or start the site's VPN; "
        remedy += "this line must end without an error:"
    return red(step, detail, remedy, line)


def _no_key(detail: str, methods: str, place: Place, keys: Keys) -> Check:
    user, origin = _user(place, keys), f"'user' in {place.file}"
    if not place.cluster.user:
        origin = "your name on this machine or User in ~/.ssh/config; clusters.yaml names none"
    detail = f"{detail.rstrip('.')}. The user was '{user}' ({origin})"
    first = f"{place.setting.removesuffix(' set:')} 'user' must be your login name at the site. "
    public = next((f for f in (Path(f"{key}.pub") for key in keys.open_files + keys.locked_files) if f.is_file()), None)
    if TYPED & set(methods.split(",")) and public:
        config = place.cluster.ssh_config_path(place.home)
        options = f"-F {config} " if config else ""
        remedy = first + "If it is, put your key there; the host asks for your password once:"
        return red("login", detail, remedy, f"ssh-copy-id {options}-i {public} {place.target}")
    if public:
        return red("login", detail, first + "If it is, give the site this public key of yours:", f"cat {public}")
    return red(
        "login",
        detail,
        first + "If it is, give the site your public key; these are those that ssh offers:",
        "ssh-add -L",
    )


def _user(place: Place, keys: Keys) -> str:
    return place.cluster.user or keys.first("user")
