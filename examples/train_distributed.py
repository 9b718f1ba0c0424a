"""
Train in several processes
==========================

Trains a net on CIFAR-10 in several processes that share each batch. It needs JAX (``pip install jax``).

On one machine, this starts them all::

    python train_distributed.py --processes 2

On several, start each by hand, with the address of the first and a folder that all see::

    python train_distributed.py --processes 2 --process 0 --address 10.0.0.1:1234 --output-dir /shared/run
    python train_distributed.py --processes 2 --process 1 --address 10.0.0.1:1234 --output-dir /shared/run
"""

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"


def start_all(count: int) -> int:
    """One process for each part, on this machine; one that fails ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *sys.argv, "--address", address, "--process"]
    running = [subprocess.Popen([*command, str(number)]) for number in range(count)]
    try:
        while None in (states := [process.poll() for process in running]) and not any(states):
            time.sleep(0.5)
        return int(any(states))
    finally:
        for process in running:
            process.terminate()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a net of the paper on CIFAR-10 in several processes.")
    parser.add_argument("--processes", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--process", type=int, help="number of this one (default: start all here)")
    parser.add_argument("--address", help="host:port of the first")
    parser.add_argument("--variant", default="all_cnn_c", help="a net (default: %(default)s)")
    parser.add_argument("--recipe", default="fast", help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="cifar-10-batches-py (default: $ALLCONVNET_CIFAR10, else a download)")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--output-dir", type=Path, help="default: <variant>-cifar10-<recipe>-seed0")
    arguments = vars(parser.parse_args())
    processes, process, address = (arguments.pop(name) for name in ("processes", "process", "address"))
    if importlib.util.find_spec("jax") is None:
        sys.exit("This example needs JAX: pip install jax")
    if process is None:
        sys.exit(start_all(processes))

    from _quiet import keras

    import allconvnet

    keras.distribution.initialize(address, processes, process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    result = allconvnet.fit_cifar10(**arguments)
    if process == 0:
        print(f"top-1 on {result.images:,} {result.split} images: {result.top1:.2f} %; weights: {result.weights}")


if __name__ == "__main__":
    main()
