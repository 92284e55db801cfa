"""The certificate that a runtime makes for itself: its hosts know it by its fingerprint, and no authority is asked."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import ssl
import tempfile
from pathlib import Path
from typing import Final, final

import attrs

from actors.errors import UsageError

_FROM: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_UNTIL: Final = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)
"""No one looks at these: it is forgotten with its runtime, and clocks of machines are never compared."""


@final
@attrs.frozen
class OwnCertificate:
    """A certificate, ready to be shown."""

    context: ssl.SSLContext = attrs.field(repr=False)
    """For the side that shows it: TLS 1.3 only."""
    fingerprint: str
    """Its SHA-256, in hexadecimal digits."""


def own_certificate() -> OwnCertificate:
    """A new one, with a new key. The key is on the disk for a moment, encrypted, where only this user may read.

    Raises:
        UsageError: the library that makes it is not installed.
    """
    try:
        # A host never needs it, and a runtime with such places only: it takes as long to import as all else here.
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "the connections of hosts on other machines are encrypted, and the library for that is not installed.\n"
            "  Fix: pip install 'understudy[ray]'"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runtime")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), _FROM, _UNTIL)
    certificate = made.sign(key, hashes.SHA256())
    password = secrets.token_hex(32).encode()
    locked = serialization.BestAvailableEncryption(password)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # no one comes back with one
    with tempfile.TemporaryDirectory() as folder:  # the standard library loads it from files only
        file = Path(folder, "certificate.pem")
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        )
        context.load_cert_chain(file, password=password)
    shown = certificate.public_bytes(serialization.Encoding.DER)
    return OwnCertificate(context, hashlib.sha256(shown).hexdigest())
