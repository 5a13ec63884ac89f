"""The connecting side: a client or a worker that goes to a server, on this host or on another."""

from __future__ import annotations

import zmq

from max_interfaces import ConfigError

from ..address import ServerAddress, TcpAddress
from .heartbeat import keep_alive
from .keys import KeyPair, require_curve

RECONNECT_MS, RECONNECT_MAX_MS = 100, 2000  # a server that is away, or refuses us, is not asked ten times a second

REFUSALS = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the server does not let our key in; whoever runs it can, with "
    "`maxpipe keys allow KEY NAME` and the key that `maxpipe keys show` prints here",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what listens there is no maxpipe server, or none that encrypts",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the server ended the handshake; the key in its address may not be its own "
    "any more, or it cannot check keys",
}
"""What a monitor's event means to the user.

After the first two libzmq does not try again: nothing can be sent any more (zmq.Again), and only a new socket may
get in. After the third it tries again by itself.
"""


def connect(socket: zmq.Socket[bytes], address: ServerAddress, keys: KeyPair | None = None) -> None:
    """Connect a fresh socket. Over tcp it shows our key, and talks to the owner of the key in the address alone.

    ConfigError over tcp without keys.
    """
    if not isinstance(address, TcpAddress):
        socket.connect(address.endpoint)
        return
    if keys is None:
        raise ConfigError(f"{address}: over tcp a key of our own is needed; make one with `maxpipe keys new`")
    require_curve()
    socket.setsockopt(zmq.CURVE_SERVERKEY, address.key.raw)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.raw)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.reveal())
    socket.setsockopt(zmq.IPV6, int(address.ipv6))
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    keep_alive(socket)
    try:
        socket.connect(address.endpoint)
    except zmq.ZMQError as problem:
        raise ConfigError(f"{address}: cannot be connected to ({problem})") from None
