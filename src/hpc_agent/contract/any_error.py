"""Any exception as the error that a user is told, the same on the command line, in MCP and in Python."""

from __future__ import annotations

import errno
import traceback

from hpc_agent.errors import HpcError, InternalError, Interrupted, PreconditionFailed, SpecInvalid, StorageFull

_ACCESS = "Make the file accessible (HPC_JOURNAL_DIR moves the journal), then run the same 'hpc-agent' command."
_PACKAGE = __file__.removesuffix("contract/any_error.py")
_OTHER_PATH = "Name a path that can exist, then run the same 'hpc-agent' command."


def as_hpc_error(error: BaseException) -> HpcError:
    """Return the error: Control-C, a full disk, a file without access, a path that cannot be, or else a bug."""
    if isinstance(error, HpcError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("stopped by Control-C")
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        from hpc_agent.node.shared.files import is_disk_full

        name = str(error.filename or "")
        shown = name if len(name) < 300 else f"{name[:200]}... ({len(name)} characters)"
        message = (f"{shown}: " if name else "") + str(error.strerror)
        if is_disk_full(error):
            return StorageFull(f"{message} (on this machine)")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return PreconditionFailed(message, remediation=_ACCESS)
        # /proc and automounted folders say ENOENT to who makes a folder there; a program that is missing has no "/"
        is_absent = error.errno == errno.ENOENT and name.startswith("/") and not name.startswith(_PACKAGE)
        if is_absent or error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
            return SpecInvalid(message, remediation=_OTHER_PATH)
    return InternalError(message, details={"traceback": traceback.format_exc()[-4000:]})
