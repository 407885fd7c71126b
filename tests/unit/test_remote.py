"""What is told when the node side gives no answer."""

import pytest

from hpc_agent.errors import HpcError
from hpc_agent.infra.remote import unframe
from hpc_agent.infra.transport import Completed

LAUNCHER = "python3: can't open file '/s/hpc-agent/r/runs/x/work/.hpc/_hpc_dispatch.py': "


@pytest.mark.parametrize(
    ("code", "stderr", "expected", "said"),
    [
        (2, LAUNCHER + "[Errno 2] No such file or directory", "run_not_found", "not on 'far' any more"),
        (2, LAUNCHER + "[Errno 116] Stale file handle", "remote_command_failed", "Stale file handle"),
        (2, LAUNCHER + "[Errno 13] Permission denied", "remote_command_failed", "Permission denied"),
        (1, "OSError: [Errno 122] Disk quota exceeded: '/home/ada/hpc-agent/r'", "storage_full", "'/home/ada/hpc-agent/r'"),
        (1, "OSError: [Errno 28] No space left on device: '/s'", "storage_full", "No space left on device: '/s'"),
        (1, "zlib.error: Error -5: incomplete or truncated stream", "remote_command_failed", "reads standard input"),
        (1, "json.decoder.JSONDecodeError: Expecting value", "remote_command_failed", "reads standard input"),
        (127, "sh: 1: exec: python3: not found", "remote_command_failed", "cannot start its Python"),
        (137, "", "remote_command_failed", "exit code 137"),
    ],
)  # fmt: skip
def test_no_answer_has_its_cause(code, stderr, expected, said):
    with pytest.raises(HpcError) as caught:
        unframe(Completed(code, b"", stderr.encode()), "n", "far")
    assert (caught.value.error_code, said in caught.value.message) == (expected, True), caught.value.message
