"""Ports for the daemons of a cluster."""

from __future__ import annotations

import contextlib
import random
import socket

LOWEST, HIGHEST = 15_000, 30_000
"""Below those that a system gives to connections; it could give away one of these before its daemon has begun."""


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nothing listens at this moment."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(LOWEST, HIGHEST), HIGHEST - LOWEST):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
