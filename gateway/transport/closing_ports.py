"""Lets a port stop taking connections before it is closed.

The system makes a connection before the server accepts it. Whoever has one when the port is closed
is told of a reset, mostly with the request sent, which a proxy may not send again. So no more
connections are begun (on Linux), those that wait are accepted, and then the port is closed: who
comes meanwhile asks again a second later, as for any lost packet, and is refused.
"""

import ctypes
import socket
import struct
import sys

# Within which connections that were begun before are made: more than a round trip to a proxy.
HANDSHAKE_S = 0.1
# Python's module `socket` has no name for it.
_SO_ATTACH_FILTER = 26
# The packet begins with TCP's header: drop it if the bit SYN is among its flags.
_FLAGS_AT, _SYN = 13, 0x02
_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, _FLAGS_AT),  # load a byte
        (0x45, 1, 0, _SYN),  # skip the next if one of these bits is set
        (0x06, 0, 0, 0xFFFFFFFF),  # keep the packet
        (0x06, 0, 0, 0),  # drop it
    )
)


def hold_back(listening: socket.socket) -> bool:
    """Let nobody begin a connection to this port any more; False: the system cannot do that."""
    if sys.platform != "linux" or listening.family == socket.AF_UNIX:
        return False
    code = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    program = struct.pack("@HP", len(_NO_SYN) // 8, ctypes.addressof(code))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        # A sandbox may forbid filters.
        return False
    return True
