"""Send JSON documents over a socket between the dispatcher and its fork server, each with at most one descriptor."""

import json
import socket
import struct
from typing import Any, Dict, Optional

LENGTH, DESCRIPTOR = struct.Struct("!I"), struct.Struct("i")


def send(channel: socket.socket, message: Dict[str, Any], descriptor: Optional[int] = None) -> None:
    """Send a JSON document, and a descriptor with it. Raises OSError when the other side has ended."""
    data = json.dumps(message).encode("utf-8")
    extra = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, DESCRIPTOR.pack(descriptor))]
    channel.sendmsg([LENGTH.pack(len(data))], extra)
    channel.sendall(data)


def receive(channel: socket.socket) -> Dict[str, Any]:
    """Return the next document, with the descriptor that came with it as ``descriptor``; {} when the other side has ended."""
    try:
        head, extra, _, _ = channel.recvmsg(LENGTH.size, socket.CMSG_SPACE(DESCRIPTOR.size))
        data = channel.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
        message = dict(json.loads(data.decode("utf-8")))
    except (OSError, struct.error, ValueError):  # the other side ended before the document, or within it
        return {}
    return dict(message, descriptor=DESCRIPTOR.unpack(extra[0][2])[0]) if extra else message
