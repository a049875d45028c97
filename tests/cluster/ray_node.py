"""Runs one node of a Ray cluster: ``python ray_node.py FOLDER ADDRESS CPUS DASHBOARD``, ``-`` and 0 for none."""

from __future__ import annotations

import json
import sys

from ray._private.node import Node
from ray._private.parameter import RayParams


def run_node(folder: str, address: str, cpus: str, port: str) -> None:
    """Start a node, say its cluster's address, and end it when the standard input is closed."""
    is_head = address == "-"
    common = {"num_cpus": int(cpus), "num_gpus": 0, "object_store_memory": 100_000_000, "min_worker_port": 0}
    mine = (
        {"include_dashboard": port != "0", "dashboard_host": "127.0.0.1", "dashboard_port": int(port) or None}
        if is_head
        else {"gcs_address": address, "redis_address": address, "include_log_monitor": False, "node_manager_port": 0}
    )
    parameters = RayParams(max_worker_port=0, dashboard_agent_listen_port=None, **common, **mine)
    node = Node(parameters, head=is_head, shutdown_at_exit=True, spawn_reaper=True)
    sys.stdout.write(json.dumps({"address": node.gcs_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    run_node(*sys.argv[1:])
