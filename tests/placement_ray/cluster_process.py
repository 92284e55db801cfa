"""A Ray cluster on this machine, for as long as the input of this process lasts.

The tests' own process imports no ray, as no runtime does. Processes are ended by their ids; `ray stop` would end everybody's.
It is told by a line of JSON what to start, answers with where it is, and adds a node for each further line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    # Workers of a low priority starve on a busy machine, and then hosts look dead.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", **told["environment"]}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found, unused-ignore]

    usual = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **usual}
    if told["port"]:
        head["gcs_server_port"] = told["port"]
    cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=2, resources={f"node{number}": 2}, **usual) for number in (1, 2)]
        say(
            out,
            address=cluster.address,
            gcs=pid(cluster.head_node, "gcs_server"),
            raylets=[pid(node, "raylet") for node in nodes],
        )
        for _ in sys.stdin:
            say(out, raylet=pid(cluster.add_node(num_cpus=2, **usual), "raylet"))
    finally:
        agents = below(os.getpid())  # of which Ray leaves some alive for a minute
        for node in cluster.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        for agent in agents:
            with contextlib.suppress(ProcessLookupError):
                os.kill(agent, signal.SIGKILL)


def below(pid: int) -> list[int]:
    """All processes that it has started, and those that these have."""
    children = [int(each) for task in Path(f"/proc/{pid}/task").glob("*/children") for each in task.read_text().split()]
    return [*children, *(each for child in children for each in below(child))]


def pid(node: Any, kind: str) -> int:
    found: int = node.all_processes[kind][0].process.pid
    return found


def say(out: Any, **words: Any) -> None:
    print(json.dumps(words), file=out, flush=True)


if __name__ == "__main__":
    main()
    os._exit(0)
