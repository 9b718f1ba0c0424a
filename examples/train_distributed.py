"""
Train in several processes
==========================

Trains a net on CIFAR-10 in several processes, each of which computes a part of every batch. It needs JAX
(``pip install jax``). Run it as a script, not as a notebook.

On one machine, this starts all processes:

.. code-block:: sh

    python train_distributed.py --processes 2

On several machines, start each process yourself, with the address of the first one and a folder that all can access:

.. code-block:: sh

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
    """Starts all processes on this machine; if one fails, the others are killed."""
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
            process.kill()  # JAX handles SIGTERM itself, and would go on.
            process.wait()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a net of the paper on CIFAR-10 in several processes.")
    parser.add_argument("--processes", type=int, default=2, help="number of processes (default: %(default)s)")
    parser.add_argument("--process", type=int, help="index of this process (default: start all of them here)")
    parser.add_argument("--address", help="host:port of the first process")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    parser.add_argument("--recipe", default="fast", help="training recipe (default: %(default)s)")
    places = "$ALLCONVNET_CIFAR10, or else a download"
    parser.add_argument("--data", type=Path, help=f"folder or archive of the data set (default: {places})")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: that of the recipe)")
    parser.add_argument("--output-dir", type=Path, help="folder of the run (default: <variant>-cifar10-<recipe>-seed0)")
    arguments = vars(parser.parse_args())
    processes, process, address = (arguments.pop(name) for name in ("processes", "process", "address"))
    if processes < 1 or (process is not None and address is None):
        parser.error("--processes must be at least 1, and --process needs --address")
    if importlib.util.find_spec("jax") is None:
        sys.exit("This example needs JAX: pip install jax")
    if process is None:
        sys.exit(start_all(processes))

    from _quiet import keras

    import allconvnet

    keras.distribution.initialize(address, processes, process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    try:
        result = allconvnet.fit_cifar10(**arguments)
    except (FloatingPointError, OSError, ValueError) as error:  # Such as no such recipe, or no data.
        sys.exit(str(error))
    if process == 0:
        print(f"top-1 on {result.images:,} {result.split} images: {result.top1:.2f} %; weights: {result.weights}")


if __name__ == "__main__":
    main()
