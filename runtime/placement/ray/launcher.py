"""A child process of the runtime's that speaks with Ray, and alone imports it: when Ray's head goes, Ray ends this process.

It is run as a file, is told in lines of JSON what to do, and answers in lines of JSON. Ray places, starts and ends a guardian for
each host, and counts what it needs; the guardian dials the runtime, and nothing of a host goes through Ray or through here.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final

from actors.words import said

PROBE: Final = "--probe"
END_S: Final = 4.0
"""How long Ray may take to let this process go."""
PROBE_S: Final = 30.0
"""How long a cluster may take to answer."""
LOOK_S: Final = 0.5
"""How often it is looked whether nodes have room for what waits."""
SETTLED_S: Final = 30.0
"""After how long what is not placed waits for room: before, a node that has started its process has that much less free, too."""
_MOST_NODES: Final = 5
_CLOSED: Final = "AuthenticationError"


class Guardian:
    """The actor of Ray's above one host. It travels by value: its node needs this project's files, and no import of them."""

    def where(self) -> str:
        """The name of its node; that it answers tells that it was placed."""
        return os.uname().nodename

    def guard(self, ticket: dict[str, Any]) -> None:
        """Dial the runtime, and be the guardian of one host as it says, until either has ended."""
        from importlib.util import find_spec, module_from_spec, spec_from_file_location  # noqa: PLC0415 - it travels by value
        from pathlib import Path  # noqa: PLC0415
        from ssl import SSLWantReadError, SSLWantWriteError  # noqa: PLC0415

        def load(name: str) -> Any:
            found = find_spec("runtime")  # which imports nothing
            places = list((found and found.submodule_search_locations) or ())
            file = next((each for place in places if (each := Path(place, "placement", "host", f"{name}.py")).exists()), None)
            spec = file and spec_from_file_location(f"_understudy_{name}", file)
            if not spec or not spec.loader:
                raise RuntimeError(f"understudy isn't installed for {sys.executable} on {os.uname().nodename}")
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module

        def here(told: dict[str, Any]) -> dict[str, Any]:
            """The modules of this node come first; those of the runtime's machine serve where the same folders are here, too."""
            rays = [str(Path(ray.__file__).parent) for ray in [sys.modules.get("ray")] if ray is not None and ray.__file__]
            own = [each for each in sys.path if not any(map(each.startswith, rays))]
            return {**told, "path": [*own, *(each for each in told["path"] if each not in own and os.path.exists(each))]}

        control = load("dialling").dialled(ticket)
        load("guardian").guard(control, not_now=(BlockingIOError, SSLWantReadError, SSLWantWriteError), here=here)


class HostToPlace:
    """One start of a host."""

    def __init__(self, number: int, needs: Mapping[str, float]) -> None:
        self.number = number
        self.needs = needs
        self.actor: Any = None
        self.at = time.monotonic()
        self.is_placed = False
        self.was_told = False
        """Whether the runtime knows that no node has room."""
        self.is_to_end = False
        """Whether the runtime wants its end, and Ray has not taken that yet."""


class Launcher:
    """What is done for one place, with one connection to a cluster."""

    def __init__(self, ray: Any, told: Mapping[str, Any], inbox: queue.SimpleQueue[Any], is_open: bool) -> None:
        self._ray = ray
        self._told = told
        self._inbox = inbox
        self._is_open = is_open
        self._starts: dict[int, HostToPlace] = {}
        self._logged = ""
        """What was logged last: it may be the same twice a second for minutes."""

    def join(self) -> str:
        """Join the cluster; the address by which its nodes know this machine."""
        environment = self._told["runtime_env"]
        self._ray.init(address=self._told["address"], runtime_env=environment, logging_level="warning", log_to_driver=True)
        address: str = self._ray.util.get_node_ip_address()
        return address

    def work(self) -> None:
        """Do as told, until nothing more is."""
        while True:
            try:
                line = self._inbox.get(timeout=LOOK_S if self._waiting() or self._to_end() else None)
            except queue.Empty:
                self._attempt("tell which nodes have room", self._look)
                for start in self._to_end():
                    self._kill(start)
                continue
            if line is None:
                return
            match line["op"]:
                case "start":
                    self._start(line["id"], line["ticket"])
                case "end":
                    self._end(line["id"])
                case "placed":
                    self._placed(line["id"], line["error"])
                case "gone":
                    self._starts.pop(line["id"], None)
                    say(said="gone", id=line["id"], how=line["how"])
                case other:
                    raise ValueError(f"the runtime wants {other!r}, which this release does not know")

    def _waiting(self) -> list[HostToPlace]:
        return [start for start in self._starts.values() if not start.is_placed]

    def _to_end(self) -> list[HostToPlace]:
        return [start for start in self._starts.values() if start.is_to_end]

    def _start(self, number: int, ticket: Mapping[str, Any]) -> None:
        start = self._starts[number] = HostToPlace(number, self._needs())
        try:
            if self._is_open and (far := [each for each in self._addresses() if not is_loopback(each)]):
                self._inbox.put({"op": "gone", "id": number, "how": open_to_all(far[0])})
                return
            self._attempt("tell which nodes have room", self._look)
            self._ask_for(start, dict(ticket))
        except Exception as error:  # noqa: BLE001 - the others go on
            self._inbox.put({"op": "gone", "id": number, "how": f"Ray does not start its guardian: {said(error)}"})

    def _attempt(self, what: str, call: Callable[[], None]) -> bool:
        """Whether Ray did what was asked of it. An error is logged, and what needs it is done again: other hosts are well."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - of another library, whose head may be away for a minute
            words = f"Ray did not {what}, and is asked again: {said(error)}"
            if words != self._logged:
                self._logged = words
                sys.stderr.write(f"understudy: the launcher of {self._told['address']}: {words}\n")
                sys.stderr.flush()
            return False
        self._logged = ""
        return True

    def _ask_for(self, start: HostToPlace, ticket: dict[str, Any]) -> None:
        resources = dict(self._told["resources"])
        options: dict[str, Any] = {"num_cpus": self._told["num_cpus"], "max_restarts": 0, "max_task_retries": 0}
        options |= {"scheduling_strategy": "SPREAD", "num_gpus": resources.pop("GPU", 0), "memory": resources.pop("memory", None)}
        start.actor = self._ray.remote(Guardian).options(resources=resources, **options).remote()
        placed, guarded = start.actor.where.remote(), start.actor.guard.remote(ticket)
        number, tell = start.number, self._inbox.put

        def when_placed(done: Future[str]) -> None:
            tell({"op": "placed", "id": number, "error": error_of(done)})

        def when_ended(done: Future[None]) -> None:
            tell({"op": "gone", "id": number, "how": how(error_of(done))})

        placed.future().add_done_callback(when_placed)
        guarded.future().add_done_callback(when_ended)

    def _placed(self, number: int, error: BaseException | None) -> None:
        start = self._starts.get(number)
        if start is not None and error is None:
            start.is_placed = True
            say(said="placed", id=number)

    def _end(self, number: int) -> None:
        start = self._starts.get(number)
        if start is not None and start.actor is not None:
            start.is_to_end = True
            self._kill(start)

    def _kill(self, start: HostToPlace) -> None:
        if self._attempt("end a guardian", lambda: self._ray.kill(start.actor, no_restart=True)):
            start.is_to_end = False

    def _needs(self) -> dict[str, float]:
        needs = {"CPU": self._told["num_cpus"], **self._told["resources"]}
        return {name: amount for name, amount in needs.items() if amount}

    def _addresses(self) -> list[str]:
        return [node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        """Tell what no node has room for: immediately, and later what has become so."""
        waiting = self._waiting()
        if all(start.was_told for start in waiting):
            return
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        free = {node: dict(amounts) for node, amounts in self._free().items() if node in nodes}
        for start in waiting:
            fits = next((each for each in free.values() if holds(each, start.needs)), None)
            age_s = time.monotonic() - start.at
            if fits is not None:
                for name, amount in start.needs.items():
                    fits[name] -= amount
            elif not start.was_told and (age_s < LOOK_S or age_s > SETTLED_S):
                start.was_told = True
                has = [
                    f"{node['NodeManagerAddress']}: "
                    + ", ".join(
                        f"{free.get(key, {}).get(name, 0):g} of {node['Resources'].get(name, 0):g} {name}" for name in start.needs
                    )
                    for key, node in list(nodes.items())[:_MOST_NODES]
                ]
                more = f", and {len(nodes) - _MOST_NODES} nodes more" if len(nodes) > _MOST_NODES else ""
                needs = ", ".join(f"{amount:g} {name}" for name, amount in start.needs.items())
                say(said="pending", id=start.number, needs=needs or "a node", has=("; ".join(has) or "no node") + more)

    def _free(self) -> Mapping[str, Mapping[str, float]]:
        """What each node has free. Ray has no other call that tells it for each."""
        found: Mapping[str, Mapping[str, float]] = importlib.import_module("ray._private.state").available_resources_per_node()
        return found


def holds(free: Mapping[str, float], needs: Mapping[str, float]) -> bool:
    """Whether what is free is enough."""
    return all(free.get(name, 0.0) >= amount for name, amount in needs.items())


def error_of(done: Future[Any]) -> BaseException | None:
    """With what a call of Ray's has failed."""
    try:
        return done.exception()
    except CancelledError as error:
        return error


def how(error: BaseException | None) -> str:
    """How a guardian ended, in one line."""
    if error is None:
        return "its guardian has finished"
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):  # raised by the guardian itself
        return f"its guardian failed: {type(cause).__name__}: {cause}".partition("\n")[0]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if "reason" in line.lower() or "because" in line.lower()), lines[0] if lines else "")
    return f"Ray says of its guardian: {type(error).__name__}: {reason}"[:400]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def open_to_all(address: str) -> str:
    """Why a cluster is not used."""
    return (
        f"the cluster runs the code of anybody who reaches {address}: it asks for no token.\n"
        "  Fix: start all of its nodes with RAY_AUTH_MODE=token, and name the file of the token with token_path=…"
    )


# --- what a cluster asks for ----------------------------------------------------------------------------------------------


_probes: set[subprocess.Popen[str]] = set()
"""The processes that look now: they end with this one."""


def probe(address: str) -> dict[str, Any]:
    """Whether a cluster answers a process with the tokens of this one, and the addresses of its nodes."""
    try:
        client: Any = importlib.import_module("ray._raylet").GcsClient
        nodes = client(address=address).get_all_node_info()
        return {"nodes": [node.node_manager_address for node in nodes.values() if not node.state]}
    except Exception as error:  # noqa: BLE001 - of a private part of a library: what it raises is told as it is
        kind = "closed" if type(error).__name__ == _CLOSED else "failed"
        return {kind: said(error).partition("\n")[0]}


def probed(address: str, **environment: str) -> dict[str, Any]:
    """The same from another process, since Ray reads once in its life how it is to identify itself."""
    inherited = {name: value for name, value in os.environ.items() if environment == {} or not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-P", __file__, PROBE, address]
    told = json.dumps({"path": sys.path}) + "\n"
    with subprocess.Popen(
        command,
        env={**inherited, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _probes.add(process)
        try:
            written, errors = process.communicate(told, timeout=PROBE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"failed": f"nothing answers there within {PROBE_S:g} s"}
        finally:
            _probes.discard(process)
    try:
        found: dict[str, Any] = json.loads(written.splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": f"the process that looked ended with exit code {process.returncode}: {errors[-500:]}"}
    return found


def judged(address: str) -> bool:
    """Whether a cluster lets everybody in; then all of it is on this machine alone.

    Raises:
        OpenToAll: it lets everybody in who reaches it from elsewhere. ConnectionError: it does not answer.
    """
    host = address.rpartition(":")[0].strip("[]")
    with ThreadPoolExecutor(1) as beside:  # each takes as long as Ray takes to import
        identified = beside.submit(probed, address) if is_loopback(host) else None
        found = probed(address, RAY_AUTH_MODE="disabled")
    if "failed" in found:
        raise ConnectionError(found["failed"])
    is_open = "nodes" in found
    far = [each for each in [host, *found.get("nodes", ())] if not is_loopback(each)]
    if is_open and far:
        raise OpenToAll(open_to_all(far[0]))
    if is_open or (identified is not None and all(map(is_loopback, identified.result().get("nodes", ("elsewhere",))))):
        # Otherwise Ray replaces such an address by one that others can reach, where nothing listens.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return is_open


class OpenToAll(Exception):
    """The cluster lets everybody in, and is not used."""


# --- the process ----------------------------------------------------------------------------------------------------------

_out_lock = threading.Lock()
_out: Any = None


def say(**words: Any) -> None:
    """Tell the runtime something."""
    with _out_lock:
        _out.write(json.dumps(words).encode() + b"\n")


def listen(inbox: queue.SimpleQueue[Any]) -> None:
    """Pass on what the runtime says; at the end of that, end, even if Ray hangs."""
    for line in sys.stdin.buffer:
        inbox.put(json.loads(line))
    _end_after(END_S)
    for process in list(_probes):
        process.kill()
    inbox.put(None)


def _end_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def main() -> None:
    """Be told about one place, join its cluster, and work."""
    global _out
    # What anybody else prints goes to the standard error.
    _out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    told = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = told["path"]
    if sys.argv[1:2] == [PROBE]:
        _end_after(PROBE_S)  # who has started it may be gone
        say(**probe(sys.argv[2]))
        return
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(inbox,), daemon=True).start()
    try:
        is_open = judged(told["address"])
        ray = importlib.import_module("ray")
        launcher = Launcher(ray, told, inbox, is_open)
        say(said="joined", address=launcher.join())
    except OpenToAll as error:
        say(said="unfit", why=str(error))
        return
    except Exception as error:  # noqa: BLE001 - what keeps it from joining is told
        say(said="failed", why=said(error))
        return
    launcher.work()
    with contextlib.suppress(Exception):  # this process ends now, and with it all that Ray holds for it
        ray.shutdown()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # Ray's threads are not waited for
