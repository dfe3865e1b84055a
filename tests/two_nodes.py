"""A Ray cluster of two nodes on this machine, each with one core and a pretended GPU, for tests.

Prints its address; kills the second node when told to on standard input, and ends with it.
"""

import os
import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    os.environ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"  # else runs would look for the GPU
    node = {"num_cpus": 1, "num_gpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()
