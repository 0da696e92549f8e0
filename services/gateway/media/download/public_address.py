"""Which addresses belong to the public internet: nothing else may be reached on a stranger's word."""

from __future__ import annotations

import ipaddress

# What some version of the standard library takes for global and yet is no stranger's web server: Azure's host
# agent, the registries' special purposes (one of them Oracle's metadata), and relays of 6to4.
_SPECIAL_4 = tuple(map(ipaddress.IPv4Network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")))
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
# Documentation, and forms that carry another address, which a router may unpack: Teredo and 6to4.
_SPECIAL_6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2002::/16", "3fff::/20")))


def is_public(address: str) -> bool:
    """Whether a literal IPv4 or IPv6 address is a public unicast one.

    False for private, loopback, link-local, shared, multicast, reserved and metadata addresses, for IPv6
    forms of IPv4 addresses but the mapped ones of public addresses, and for what is no address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return _is_public_4(parsed.ipv4_mapped)
        special = any(parsed in network for network in _SPECIAL_6) or parsed.scope_id is not None
        return parsed in _UNICAST_6 and parsed.is_global and not special
    return _is_public_4(parsed)


def _is_public_4(address: ipaddress.IPv4Address) -> bool:
    special = any(address in network for network in _SPECIAL_4)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)
