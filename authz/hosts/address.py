"""The old home of authz/address.py, for those who still import it from here."""

from authz.address import Address, TcpAddress, UnixAddress, parse_address

__all__ = ["Address", "TcpAddress", "UnixAddress", "parse_address"]
