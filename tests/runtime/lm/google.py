"""Google's credentials for tests: those of a service account whose token endpoint is a server of ours."""

import functools
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@functools.cache
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*pem).decode()


def service_account(url: str, project: str | None = "my-project") -> str:
    """The JSON of a service account's key."""
    fields = {
        "type": "service_account",
        "private_key_id": "k1",
        "private_key": private_key(),
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
    }
    return json.dumps({**fields, "project_id": project} if project else fields)
