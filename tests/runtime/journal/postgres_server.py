"""A real PostgreSQL for tests: a server of Debian's package, on loopback, with its own folder, as an ordinary user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

REASON: Final = "needs the programs of PostgreSQL (on Debian and Ubuntu: apt install postgresql)"
PASSWORD: Final = "p@ss/w:rd %"
ORDINARY: Final = ("postgres", "nobody")
"""Whom the server runs as when the tests run as root, which it refuses to do."""


def programs() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``, of the newest version there is; None: it isn't installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    return max(found, key=lambda folder: int(folder.parent.name) if folder.parent.name.isdecimal() else 0, default=None)


class Server:
    """One cluster, started and stopped as a test likes."""

    def __init__(self, bin_folder: Path, *, fsync: bool = False) -> None:
        """Without `fsync` what it has written outlives it, and not the machine: all that tests stop is the server."""
        self._bin = bin_folder
        self._fsync = "on" if fsync else "off"
        self._user: dict[str, Any] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="understudy-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            user = next(pwd.getpwnam(name) for name in ORDINARY if _is_known(name))
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        password = self.folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        password.chmod(0o644)
        self._run(
            "initdb", "-D", self.data, "-U", "understudy", "-E", "UTF8", "--locale=C", "--no-sync", "--auth-local=trust",
            "--auth-host=scram-sha-256", f"--pwfile={password}",
        )  # fmt: skip
        self.port = 0

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def dsn(self) -> str:
        """Over the socket in its folder, without a password."""
        return f"host={self.folder} port={self.port} user=understudy dbname=postgres"

    def address(self, port: int | None = None) -> str:
        """Over TCP, with the password."""
        return f"postgresql://understudy:p%40ss%2Fw%3Ard%20%25@127.0.0.1:{port or self.port}/postgres"

    def start(self) -> None:
        """Start it, on the port that it had before."""
        for _ in range(5):
            port = self.port or _free_port()
            settings = f"-c listen_addresses=127.0.0.1 -c fsync={self._fsync} -c max_connections=120"
            options = f"-p {port} -k {self.folder} {settings}"
            try:
                self._run("pg_ctl", "-D", self.data, "-o", options, "-l", self.folder / "log", "-w", "-t", "60", "start")
            except subprocess.CalledProcessError:
                continue
            self.port = port
            return
        raise RuntimeError((self.folder / "log").read_text(encoding="utf-8"))

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` is as sudden as a crash."""
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def close(self) -> None:
        """Stop it for good, and delete what it has written."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def hold_back_log(self) -> Callable[[], None]:
        """From now on only commits that wait for the disk write to it.

        What is returned lets the server crash, and returns when it is back: until it has noticed, a busy machine's still answers.
        """
        writer = self._log_writer()
        assert writer is not None
        os.kill(writer, signal.SIGSTOP)

        def crash() -> None:
            os.kill(writer, signal.SIGKILL)
            deadline_s = time.monotonic() + 120
            while self._log_writer() in {None, writer}:
                assert time.monotonic() < deadline_s, "the server has not come back"
                time.sleep(0.02)

        return crash

    def _log_writer(self) -> int | None:
        """The process that writes the log to the disk; None while the server is away."""
        try:
            found = self.query("select pid from pg_stat_activity where backend_type = 'walwriter'")
        except psycopg.OperationalError:
            return None
        return found[0][0] if found else None

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask it behind the store's back."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str | Path) -> None:
        # Its output goes nowhere: a server that is started would keep a pipe open.
        subprocess.run(
            [self._bin / program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            timeout=240,
            **self._user,
        )


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server; the test is skipped where there is none to start, unless ``UNDERSTUDY_POSTGRES`` asks for one."""
    import pytest  # benchmarks start a server as well, where it isn't installed

    folder = programs()
    if folder is None:
        if os.environ.get("UNDERSTUDY_POSTGRES"):
            pytest.fail(REASON)
        pytest.skip(REASON)
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `module`, with a pipe from its output; killed at the end of the block, whatever its state."""
    with subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def _is_known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
