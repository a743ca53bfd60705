"""Loaded by every Python process that has this folder on its path: it may speak to this machine only.

Each process leaves a file in WATCHED_BY; what it tries beyond this machine is refused, and written into that.
"""

import ipaddress
import os
import socket
import sys

_NOTES = os.path.join(os.environ["WATCHED_BY"], f"{os.getpid()}.txt")  # noqa: PTH118  (nothing more than needed)
_OWN_NAMES = {"", "localhost", socket.gethostname()}
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def _stays(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    return _is_ours(address[0])


def _is_ours(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name in _OWN_NAMES


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in _LOOKUPS:
        stays = _is_ours(args[0])
    elif event in ("socket.connect", "socket.sendto"):
        stays = _stays(args[1])
    else:
        return
    if not stays:
        _note(f"{event} {args!r}")
        raise PermissionError(f"{event} leaves this machine: {args!r}")


def _note(line: str) -> None:
    with open(_NOTES, "a") as notes:  # noqa: PTH123  (nothing more than needed)
        notes.write(line + "\n")


_note(f"watched: {' '.join(sys.orig_argv)}")
sys.addaudithook(_watch)
