"""Send JSON documents over a socket between a dispatcher, its host and its workers, each with at most two descriptors."""

import json
import select
import socket
import struct
from array import array
from typing import Any, Dict

WARM, FORK = "warm", "fork"  # how a run isolates its packed functions; otherwise each is a process of its own
LENGTH = struct.Struct("!I")
ROOM = socket.CMSG_SPACE(2 * array("i").itemsize)
CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # a program that a task starts has no use for a descriptor of ours
_encode = json.JSONEncoder(separators=(",", ":")).encode


def send(channel: socket.socket, message: Dict[str, Any], *descriptors: int) -> None:
    """Send a JSON document, and descriptors with it. Raises OSError when the other side has ended."""
    data = _encode(message).encode("ascii")
    data = LENGTH.pack(len(data)) + data
    if not descriptors:
        return channel.sendall(data)
    sent = channel.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))])
    if sent < len(data):
        channel.sendall(data[sent:])
    return None


def receive(channel: socket.socket) -> Dict[str, Any]:
    """Return the next document, with the descriptors that came with it; {} when the other side has ended."""
    try:
        head, extra, _, _ = channel.recvmsg(LENGTH.size, ROOM, CLOEXEC)
        message: Dict[str, Any] = json.loads(_all_of(channel, LENGTH.unpack(head)[0]).decode("ascii"))
    except (OSError, struct.error, ValueError):  # the other side ended before the document, or within it
        return {}
    if extra:
        descriptors = array("i")
        descriptors.frombytes(extra[0][2])
        message["descriptors"] = descriptors.tolist()
    return message


def _all_of(channel: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer when the other side has ended. A signal that is handled meanwhile cuts a call short."""
    data = part = channel.recv(size, socket.MSG_WAITALL)
    while part and len(data) < size:
        part = channel.recv(size - len(data), socket.MSG_WAITALL)
        data += part
    return data


def has_arrived(channel: socket.socket) -> bool:
    """Return True when something has come over the channel, be it its end."""
    return bool(select.select([channel], [], [], 0)[0])
