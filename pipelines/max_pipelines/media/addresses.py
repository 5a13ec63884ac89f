"""Which addresses are the public Internet's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

GLOBAL_UNICAST = IPv6Network("2000::/3")  # all else of IPv6 is for other uses, or for none yet
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))  # 6to4 and Teredo: to an IPv4 address within
TUNNEL_RELAYS = IPv4Network("192.88.99.0/24")  # RFC 7526


def is_public(text: str) -> bool:
    """Whether an address as `getaddrinfo` writes it is public: neither private, loopback, link-local, shared,
    multicast, reserved nor unspecified, nor an IPv6 form of an IPv4 address that is."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is None:
            inside = address in GLOBAL_UNICAST and not any(address in tunnel for tunnel in TUNNELS)
            return inside and address.is_global and not address.is_multicast
        address = inner
    usual = address.is_global and not address.is_multicast and not address.is_reserved
    return usual and address not in TUNNEL_RELAYS


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that the kernel or a translator would connect to in its place."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None
