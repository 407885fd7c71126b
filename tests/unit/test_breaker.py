"""A host that does not answer is left alone for a while, by every process."""

import pytest

from hpc_agent.errors import SshUnreachable
from hpc_agent.infra import ssh
from hpc_agent.infra.transport import Completed


class Host:
    def __init__(self):
        self.up, self.asked = False, 0

    def run(self, words, stdin, timeout):
        self.asked += 1
        if not self.up:
            raise SshUnreachable("no answer")
        return Completed(0, b"", b"")


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(ssh.time, "time", lambda: clock[0])
    return clock


def ask(host, folder, **env):
    with ssh.pauses("ada@login", folder, env):
        return host.run(["true"], b"", 1.0)


def test_after_five_failures_the_host_is_left_alone_and_then_tried_again(tmp_path, now):
    host = Host()
    for _ in range(ssh.FAILURES_BEFORE_OPEN):
        with pytest.raises(SshUnreachable):
            ask(host, tmp_path)
    with pytest.raises(SshUnreachable, match="no process tries") as refused:
        ask(host, tmp_path)
    assert (host.asked, refused.value.details["retry_after_sec"]) == (5, 30)
    now[0] += 31
    with pytest.raises(SshUnreachable, match="no answer"):
        ask(host, tmp_path)
    now[0] += 31
    with pytest.raises(SshUnreachable, match="no process tries"):
        ask(host, tmp_path)
    now[0] += 30
    host.up = True
    assert ask(host, tmp_path).code == 0
    host.up = False
    with pytest.raises(SshUnreachable, match="no answer"):
        ask(host, tmp_path)


def test_the_user_may_insist(tmp_path, now):
    host = Host()
    for _ in range(9):
        with pytest.raises(SshUnreachable, match="no answer"):
            ask(host, tmp_path, HPC_NO_BREAKER="1")
    assert host.asked == 9


def test_failures_of_yesterday_do_not_count(tmp_path, now):
    host = Host()
    for _ in range(4):
        with pytest.raises(SshUnreachable):
            ask(host, tmp_path)
    now[0] += ssh.FORGOTTEN_SEC + 1
    for _ in range(2):
        with pytest.raises(SshUnreachable, match="no answer"):
            ask(host, tmp_path)


@pytest.mark.parametrize(
    ("refused", "longest"), [(True, ssh.LONGEST_AFTER_REFUSAL_SEC), (False, ssh.LONGEST_PAUSE_SEC)]
)
def test_a_host_that_refuses_logins_is_left_alone_for_longer(tmp_path, now, refused, longest):
    def fail():
        with ssh.pauses("ada@login", tmp_path, {}):
            raise SshUnreachable("ada@login: the cause", details={"login_refused": refused})

    for _ in range(12):
        with pytest.raises(SshUnreachable, match=r"ada@login: the cause$"):
            fail()
        with pytest.raises(SshUnreachable, match="the cause") as caught:
            fail()
        now[0] += caught.value.details.get("retry_after_sec", 0) + 1
    assert caught.value.details["retry_after_sec"] == longest
