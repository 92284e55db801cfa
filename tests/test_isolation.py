"""The guards of conftest.py hold: they decide whether the rest of the suite can be trusted."""

from __future__ import annotations

import os
import socket

import pytest


def test_a_test_cannot_leave_this_machine() -> None:
    message = r"^a test tried to connect to \('192\.0\.2\.1', 80\): use the loopback provider, or mark it `network`$"

    with socket.socket() as sock, pytest.raises(pytest.fail.Exception, match=message):
        sock.connect(("192.0.2.1", 80))


def test_a_test_can_connect_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()

        with accepted:
            client.sendall(b"here")
            assert accepted.recv(4) == b"here"


def test_no_provider_key_reaches_a_test() -> None:
    assert not [name for name in os.environ if name.endswith("_API_KEY")]
