"""How a host, or the guardian of one, reaches its runtime over TCP. Standard library only, and loaded by its path, too.

What dials says who it is in a few bytes of fixed length, and nothing else is read of it before that. Under TLS it looks first
whether the other side has the certificate that its invitation names: the secret is told to no one else.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import struct
from typing import TypedDict

FIRST = struct.Struct(">4sQ32s")
"""What is said first: the mark of this protocol, the number of the invitation, and its secret."""
MARK = b"und1"
PATIENCE_S = 10.0
"""How long the other side may take to answer, and the caller to say who it is."""


class DialTicket(TypedDict):
    """Where to dial, and what to say there, once. All of it is text and numbers, so it travels as JSON."""

    address: str
    port: int
    fingerprint: str
    """The SHA-256 of the other side's certificate, in hexadecimal digits; empty if it speaks no TLS."""
    number: int
    secret: str
    """32 bytes, in hexadecimal digits."""


class StrangerAnswered(Exception):
    """The side that answered isn't the runtime that the ticket is of."""


def first_words(ticket: DialTicket) -> bytes:
    """What is said first."""
    return FIRST.pack(MARK, ticket["number"], bytes.fromhex(ticket["secret"]))


def tls_context() -> ssl.SSLContext:
    """For a side that knows a certificate by its fingerprint: see :func:`check_certificate`, which must follow."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no authority has signed it; that the other side has its key is checked all the same
    return context


def check_certificate(certificate: bytes | None, ticket: DialTicket) -> None:
    """Compare the certificate of the side that answered with that of the ticket.

    Raises:
        StrangerAnswered: it is another one.
    """
    found = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(found, ticket["fingerprint"]):
        raise StrangerAnswered(f"{ticket['address']}:{ticket['port']} answered with another certificate than the runtime's")


def dialled(ticket: DialTicket) -> socket.socket:
    """A socket to the runtime, over which the first words were said.

    Raises:
        OSError: no one answers there, or not in time. StrangerAnswered: it is somebody else.
    """
    reached = socket.create_connection((ticket["address"], ticket["port"]), timeout=PATIENCE_S)
    try:
        reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ticket["fingerprint"]:
            secured = tls_context().wrap_socket(reached)
            reached = secured
            check_certificate(secured.getpeercert(binary_form=True), ticket)
        reached.sendall(first_words(ticket))
    except BaseException:
        reached.close()
        raise
    return reached
