"""Send JSON documents over a socket between the dispatcher and its fork server, each with at most one descriptor."""

import array
import json
import socket
import struct
from typing import Any, Dict, Optional, Tuple

HEADER = struct.Struct("!I")


def send(channel: socket.socket, message: Dict[str, Any], descriptor: Optional[int] = None) -> None:
    """Send a JSON document, and a descriptor with it. Raises OSError when the other side has ended."""
    data = json.dumps(message).encode("utf-8")
    extra = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    channel.sendmsg([HEADER.pack(len(data))], extra)
    channel.sendall(data)


def receive(channel: socket.socket) -> Optional[Tuple[Dict[str, Any], int]]:
    """Return the next document and the descriptor that came with it (-1: none); None when the other side has ended."""
    numbers = array.array("i")
    try:
        head, extra, _, _ = channel.recvmsg(HEADER.size, socket.CMSG_SPACE(numbers.itemsize))
        for _, kind, data in extra:
            if kind == socket.SCM_RIGHTS:
                numbers.frombytes(data[: numbers.itemsize])
        head += _exactly(channel, HEADER.size - len(head)) if head else b""
        if not head:
            return None
        body = _exactly(channel, HEADER.unpack(head)[0])
    except (OSError, EOFError):
        return None
    return dict(json.loads(body.decode("utf-8"))), numbers[0] if numbers else -1


def _exactly(channel: socket.socket, size: int) -> bytes:
    pieces = []
    while size:
        piece = channel.recv(min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
