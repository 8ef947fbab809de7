"""Which addresses a document of a provider may be fetched from (JW-07; threat 18: SSRF).

- Link-local addresses (169.254.169.254), multicast, unspecified and reserved ones, and those at which clouds
  hand out credentials: never.
- The loopback, and private networks (RFC 1918, RFC 4193, shared and special-purpose ones): only where the
  provider is configured as one that is there.
- An IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64) is allowed where that one is.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1
_COMPATIBLE: Final = IPv6Network("::/96")  # RFC 4291 section 2.5.5.1, without :: and ::1
_LOW_32: Final = 0xFFFF_FFFF
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")  # RFC 791 section 3.2
# Special purposes (RFC 6890); whether Python calls it global depends on its version.
_SPECIAL: Final = IPv4Network("192.0.0.0/24")
# The metadata services that are not link-local, of the clouds that document one.
_METADATA: Final = frozenset(
    map(
        ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)


def is_allowed(address: IPv4Address | IPv6Address, *, loopback: bool, private: bool) -> bool:
    """Say whether a connection may go to this address."""
    if isinstance(address, IPv6Address):
        if address.is_site_local:  # deprecated (RFC 3879), and used inside of networks only
            return private
        inner = list(_embedded(address))
        if inner:
            return all(is_allowed(one, loopback=loopback, private=private) for one in inner)
    if address.is_loopback:
        return loopback
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    if address in _METADATA or address in _THIS_NETWORK:
        return False
    return private or (address.is_global and address not in _SPECIAL)


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & _LOW_32)
