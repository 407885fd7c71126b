"""Send JSON documents over a socket between a dispatcher, its host and its workers, each with at most one descriptor."""

import json
import select
import socket
import struct
from typing import Any, Dict, Optional

LENGTH, DESCRIPTOR = struct.Struct("!I"), struct.Struct("i")
CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # a program that a task starts has no use for a descriptor of ours
_encode = json.JSONEncoder(separators=(",", ":")).encode


def send(channel: socket.socket, message: Dict[str, Any], descriptor: Optional[int] = None) -> None:
    """Send a JSON document, and a descriptor with it. Raises OSError when the other side has ended."""
    data = _encode(message).encode("ascii")
    data = LENGTH.pack(len(data)) + data
    if descriptor is None:
        return channel.sendall(data)
    sent = channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, DESCRIPTOR.pack(descriptor))])
    if sent < len(data):
        channel.sendall(data[sent:])
    return None


def receive(channel: socket.socket) -> Dict[str, Any]:
    """Return the next document, with the descriptor that came with it as ``descriptor``; {} when the other side has ended."""
    try:
        head, extra, _, _ = channel.recvmsg(LENGTH.size, socket.CMSG_SPACE(DESCRIPTOR.size), CLOEXEC)
        data = channel.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL)
        message: Dict[str, Any] = json.loads(data.decode("ascii"))
    except (OSError, struct.error, ValueError):  # the other side ended before the document, or within it
        return {}
    if extra:
        message["descriptor"] = DESCRIPTOR.unpack(extra[0][2])[0]
    return message


def has_arrived(channel: socket.socket) -> bool:
    """Return True when something has come over the channel, be it its end."""
    return bool(select.select([channel], [], [], 0)[0])
