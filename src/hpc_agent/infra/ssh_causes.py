"""The cause of a failed connection, from what ssh and the login shell print, and the next command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hpc_agent.errors import HpcError, RemoteCommandFailed, SshUnreachable, StorageFull
from hpc_agent.infra.transport import Completed, quote

AGAIN = "then run the same 'hpc-agent' command again."
CONNECTION_LOST = (12, 30, 35)  # exit codes of rsync: the stream ended, two time limits
START_UP_FILES = {
    "bash": "~/.bashrc", "zsh": "~/.zshenv", "tcsh": "~/.tcshrc or ~/.cshrc", "csh": "~/.cshrc",
    "fish": "~/.config/fish/config.fish",
}  # fmt: skip
_BANS = re.compile(
    r"Permission denied|Too many authentication failures|kex_exchange|Connection (?:closed|reset)"
)  # after many of these a site may ban the address
_LOST = re.compile(
    r"^rsync error:|onnection .*(?:closed|reset)|disconnect|Broken pipe|[Tt]imeout"
)  # lines after a lost connection
TYPED = {"keyboard-interactive", "password"}  # what a person has to type


class Reach(NamedTuple):
    """How a host is reached by hand."""

    ssh: Sequence[str]  # ssh, and -F with a configuration
    target: str
    socket: str | None  # of the private master
    jump: str = ""  # ProxyJump
    has_agent: bool = False

    @property
    def by_hand(self) -> str:
        return quote([*self.ssh, self.target])

    @property
    def check(self) -> str:
        return quote([*self.ssh, "-o", "BatchMode=yes", self.target, "true"])

    def error(self, what: str, line: str, remedy: str, text: str, kind: type[HpcError] = SshUnreachable) -> HpcError:
        """Return an error that shows ``line`` of ``text``, the output of ssh. ``remedy`` is followed by the call."""
        shown = re.sub(r"\S{100,}", "...", line.strip())[:300]  # a shell may print the request, which is one long word
        message = f"{self.target}: {': '.join(filter(None, (what, shown)))}"
        refused = bool(_BANS.search(line))
        details = {"host": self.target, "stderr_tail": text[-2000:], "login_refused": refused}
        return kind(message, remediation=f"{remedy}; {AGAIN}", details=details)


class _Cause(NamedTuple):
    signs: str  # a regular expression; the line that has it is shown
    message: str
    remedy: str  # {by_hand} and {check} are commands, other fields are groups of ``signs``
    kind: type[HpcError] = SshUnreachable


_ACCOUNT = [
    _Cause(r"password (?:has |is )?expired|password change required|required to change your password",
           "the password has expired, and the host runs no command before it is changed", "Change it: '{by_hand}'"),
    _Cause(r"account (?:has |is )?expired|account (?:has been |is )?(?:disabled|locked)",
           "the account has expired or is locked", "Ask the site to renew it, see that '{check}' works"),
]  # fmt: skip

# ssh ended with 255. The most telling first: a failed jump host is followed by "Connection closed".
_REFUSED = [
    *_ACCOUNT,
    _Cause(r"going down|booting up|not permitted to log in|[Mm]aintenance", "the host accepts no logins now",
           "Wait until '{check}' works"),
    _Cause(r"Permissions \S+ for '?(?P<file>.+?)'? are too open", "ssh uses no key that others may read",
           "Run 'chmod 600 {file}'"),
    _Cause(r"Too many authentication failures", "ssh offered more keys than the host allows",
           "Name the one key of this host in ~/.ssh/config (IdentityFile, and 'IdentitiesOnly yes'), see that '{check}' works"),
    _Cause(r"Bad configuration option|Bad owner or permissions|Can't open user config|^\S.* line \d+: ",
           "ssh on this machine cannot use its configuration", "Correct the file, see that '{check}' works"),
    _Cause(r"Unable to negotiate|no matching .* found", "ssh and the host have no method in common",
           "Allow the host's method in ~/.ssh/config (such as 'HostKeyAlgorithms +ssh-rsa'), see that '{check}' works"),
    _Cause(r"open failed: |stdio forwarding failed", "the jump host was reached, and the host not from there",
           "Correct HostName or ProxyJump in ~/.ssh/config, or wait until '{check}' works"),
    _Cause(r"Could not resolve hostname", "the name is not known on this machine",
           "Correct 'host' in clusters.yaml (HostName, ProxyJump in ~/.ssh/config), or start the VPN; see that '{check}' works"),
    _Cause(r"connect to (?:host|address)|timed out|No route to host|Network is unreachable", "",
           "Start the VPN if the site wants one, wait until '{check}' works"),
    _Cause(r"kex_exchange_identification|banner exchange|Connection (?:closed|reset) by (?!remote host\.)",
           "the host closed the connection before the login (too many at once, or this address is blocked)",
           "Wait some minutes, see that '{check}' works"),
]  # fmt: skip

# The host accepted the login, and its login shell did not run the command.
_NOT_RUN = [
    *_ACCOUNT,
    _Cause(r"Resource temporarily unavailable|Cannot fork|No more processes|Cannot allocate memory",
           "the login node cannot start another process", "Wait some minutes, or end processes of yours there: '{by_hand}'"),
    _Cause(r"(?i)not (?:currently )?available|nologin|no (?:shell|login) access|s(?:ftp|cp)\b.* only",
           "the account has no login shell there", "Ask the site for one, see that '{check}' works", RemoteCommandFailed),
    _Cause(r"(?i)restricted", "the login shell is a restricted one, which does not run /bin/sh",
           "Ask the site for an ordinary login shell, see that '{check}' works", RemoteCommandFailed),
    _Cause(r"Disk quota exceeded|No space left", "the login shell ended for want of room in the home folder",
           "Make room: '{by_hand}', there 'quota -s' and 'df -h ~'", StorageFull),
]  # fmt: skip


def refused(text: str, reach: Reach) -> HpcError:
    """Return the error of an ssh that ended with 255 and printed ``text`` to stderr."""
    known = _host_key(text, reach) or _permission(text, reach) or _first(_REFUSED, text, reach)
    own = _last_line("\n".join(line for line in text.splitlines() if not line.startswith("rsync")))
    return known or reach.error("", own or "the connection was lost", f"See that '{reach.check}' works", text)


def not_run(code: int, text: str, reach: Reach) -> HpcError:
    """Return the error of a login shell that printed ``text``, ended with ``code`` and did not run the command."""
    known = _first(_NOT_RUN, text, reach)
    if known:
        return known
    what = f"the login shell ended with exit code {code} and did not run the command"
    what += " (a start-up file calls exit or exec, or the account has no shell)"
    remedy = "Let the start-up files there (~/.bashrc, ~/.cshrc, ~/.zshenv, ...) call exit and exec in interactive shells only; "
    remedy += f"`{quote([*reach.ssh, reach.target, 'echo', 'it', 'works'])}` must print 'it works'"
    return reach.error(what, _last_line(text), remedy, text, RemoteCommandFailed)


def not_copied(done: Completed, noise: Sequence[str], answer: Sequence[str], reach: Reach) -> HpcError:
    """Return the error of an rsync that failed although the host answers.

    ``noise``: stdout and stderr of the start-up files there. ``answer``: one line with the login shell, empty where none is set,
    and one with the path of rsync, if there is one.
    """
    text, shell = done.stderr_tail, (answer[0].strip() if answer else "") or "sh"
    files = START_UP_FILES.get(shell.rpartition("/")[2], "the start-up files")
    if noise[0].strip():
        shown = " ".join(noise[0].split())[:100]
        remedy = f"Let {files} there print in interactive shells only: '{reach.by_hand} true' must print nothing"
        what = f"a start-up file of the login shell {shell} prints text, and rsync needs a silent one"
        return reach.error(what, repr(shown), remedy, text, RemoteCommandFailed)
    if len(answer) == 1:
        remedy = f"Put its folder on the PATH in {files} there (clusters.yaml's shell_init is not read before rsync): "
        remedy += f"'{reach.by_hand} rsync --version' must answer"
        return reach.error("rsync is not on the PATH of the login shell", "", remedy, text, RemoteCommandFailed)
    told = [line for line in text.splitlines() if line.strip() and line not in noise[1].splitlines()]
    told = [line for line in told if not _LOST.search(line)]
    other = next((line for line in told if line.startswith(("rsync: ", "rsync["))), told[0] if told else "")
    if done.code in CONNECTION_LOST and not other:
        what = "the connection was lost while files were pushed"
        return reach.error(what, _last_line(text), f"See that '{reach.check}' works", text)
    what = f"rsync failed with exit code {done.code}"
    return reach.error(what, other or _last_line(text), "Correct the cause", text, RemoteCommandFailed)


def _first(causes: Sequence[_Cause], text: str, reach: Reach) -> HpcError | None:
    for cause in causes:
        for line in text.splitlines():
            if sign := re.search(cause.signs, line):
                remedy = cause.remedy.format(by_hand=reach.by_hand, check=reach.check, **sign.groupdict())
                return reach.error(cause.message, line, remedy, text, cause.kind)
    return None


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if re.search(r"[A-Za-z]{2}", line)), "")


def _host_key(text: str, reach: Reach) -> HpcError | None:
    if "Host key verification failed" not in text:
        return None
    changed = re.search(r"Host key for (\S+) has changed", text)
    if not changed:
        remedy = f"Accept it once by hand: '{reach.by_hand}'"
        return reach.error("the host's key is not known here", "Host key verification failed.", remedy, text)
    name = changed.group(1)
    printed = re.search(r"ssh-keygen -f .* -R .*\S", text)
    forget = printed.group(0) if printed else quote(["ssh-keygen", "-R", name])
    offending = re.search(r"Offending .*", text)
    what = f"the host key of {name} has changed: the host was set up anew, or another host answers"
    remedy = f"Ask the site for the new fingerprint; run '{forget}', and accept that key by hand: '{reach.by_hand}'"
    return reach.error(what, offending.group(0) if offending else "", remedy, text)


def _permission(text: str, reach: Reach) -> HpcError | None:
    denied = re.search(r".*Permission denied \(([\w,@.-]+)\).*", text)
    if not denied or "are too open" in text:
        return None
    methods = set(denied.group(1).split(","))
    at_jump = reach.jump and re.search(r"kex_exchange_identification|UNKNOWN port", text)
    who = f"the jump host {reach.jump}" if at_jump else "the host"
    if methods & TYPED and "publickey" not in methods:
        return reach.error(
            f"{who} wants a password or code that a person types", denied.group(0), _by_hand(reach), text
        )
    if "publickey" in methods:
        what = f"{who} accepted no key"
        agent = "is set" if reach.has_agent else "is not set in this environment"
        remedy = f"Run 'ssh-add -l' (SSH_AUTH_SOCK {agent}; pass it on to this process), see that '{reach.check}' works"
        remedy += f" (or log in by hand: {_by_hand(reach)})" if methods & TYPED else ""
    else:
        what = f"{who} accepts no key"
        remedy = f"{'Run kinit, see' if 'gssapi' in denied.group(1) else 'See'} that '{reach.check}' works"
    return reach.error(what, denied.group(0), remedy, text)


def _by_hand(reach: Reach) -> str:
    if reach.socket is None:
        return f"Share a connection in ~/.ssh/config (ControlMaster auto, ControlPath), open it in a terminal: `{reach.by_hand}`"
    words = [*reach.ssh, "-fNM", "-o", f"ControlPath={reach.socket}", "-o", "ServerAliveInterval=30", reach.target]
    return f"Open a master connection in a terminal: `{quote(words)}`, which hpc-agent uses as long as it lasts"
