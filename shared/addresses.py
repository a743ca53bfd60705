"""Addresses that others name and this service would call: which may be called, and which are nobody else's business.

Whoever may name an address could else have this machine ask its own network: routers, metadata services, databases.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads."""

    secure: bool
    host: str
    port: int


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        ValueError: it is none of http or https, has no host, or a name or password in it.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("holds a character that a URL cannot have")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc or not parts.hostname:
        raise ValueError("must have a host, and neither a user nor a password")
    secure = parts.scheme == "https"
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that cannot be") from None
    return Address(secure, parts.hostname, port or (443 if secure else 80))


def literal(host: str) -> Ip | None:
    """The address that a host is, if it is no name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def networks(text: str) -> tuple[Network, ...]:
    """Networks with commas between them. Raises ValueError where one is none."""
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def may_be_called(ip: Ip, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address lies in one of some networks, or else is public: neither private, loopback, link-local,
    multicast nor reserved, also not by way of another it stands for."""
    if any(ip.version == network.version and ip in network for network in allowed):
        return True
    inner = _inner(ip)
    if inner is not None:
        return may_be_called(inner, allowed)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _inner(ip: Ip) -> Ip | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
