"""What differs between backends and machines: gradients, processes, pipelines of batches, bfloat16."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np


def vjp(function: Callable, inputs) -> tuple[Any, Callable]:
    """`function(inputs)`, and a function from weights of the outputs to the gradient at `inputs`, to be called once."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        outputs, pull_back = jax.vjp(function, inputs)
        return outputs, lambda weights: pull_back(weights)[0]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(inputs)
        return outputs, lambda weights: tape.gradient(outputs, inputs, weights, unconnected_gradients="zero")
    import torch

    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        outputs = function(inputs)
    return outputs, lambda weights: torch.autograd.grad(outputs, inputs, weights, materialize_grads=True)[0]


def outside_inference_mode() -> contextlib.AbstractContextManager:
    """Leaves PyTorch's inference mode, in which tensors are made that can have no gradients."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.inference_mode(False)


def check_gradients() -> None:
    """Raises on the backends of Keras that only predict."""
    if (backend := keras.backend.backend()) not in ("tensorflow", "jax", "torch"):
        allowed = "KERAS_BACKEND=tensorflow, jax or torch"
        raise ValueError(f"Training and gradients need another backend. Received: {backend!r}. Allowed: {allowed}.")


def fused_batch_norm(inputs, gamma, beta, epsilon: float) -> tuple:
    """TensorFlow's training kernel: outputs, mean and variance of the batch."""
    import tensorflow as tf

    return tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=epsilon)


def processes() -> tuple[int, int]:
    """Index of this process and number of processes; `(0, 1)` without a distribution of Keras."""
    distribution, backend = keras.distribution.distribution(), keras.backend.backend()
    if backend == "jax":
        import jax

        if distribution is not None:
            return jax.process_index(), jax.process_count()
        if jax.process_count() > 1:
            call = "keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))"
            raise ValueError(f"{jax.process_count()} processes run without a keras.distribution. Call {call} in each.")
    elif distribution is not None:
        raise ValueError(f"Training in several processes needs KERAS_BACKEND=jax. Received: backend {backend!r}.")
    return 0, 1


def wait_for_others() -> None:
    """Blocks until every process has called this function."""
    if processes()[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("allconvnet")


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """Turns Keras' distribution off inside the block."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def batches(images: np.ndarray, targets: np.ndarray, batch_size: int) -> dict[str, object]:
    """Arguments of `model.fit` for whole batches in this order; of each batch, the part of this process."""
    process, count = processes()
    if batch_size % count:
        raise ValueError(f"batch_size={batch_size} must be a multiple of the number of processes, {count}.")
    mine = slice(process * batch_size // count, (process + 1) * batch_size // count)
    whole = len(images) // batch_size * batch_size
    steps = [part[:whole].reshape(-1, batch_size, *part.shape[1:])[:, mine] for part in (images, targets)]
    if keras.backend.backend() != "tensorflow":
        x, y = (part.reshape(-1, *part.shape[2:]) for part in steps)
        return {"x": x, "y": y, "batch_size": batch_size // count, "shuffle": False}
    return {"x": _pipeline(tuple(steps)), "shuffle": False}


def prediction_batches(images: np.ndarray, batch_size: int) -> dict[str, object]:
    """Arguments of `model.predict`."""
    batch_size = min(batch_size, max(1, len(images)))  # TensorFlow refuses numbers of more than 63 bits.
    if keras.backend.backend() != "tensorflow":
        return {"x": images, "batch_size": batch_size}
    return {"x": _pipeline(images).batch(batch_size)}


def _pipeline(arrays):
    import tensorflow as tf

    # From arrays, Keras makes a tf.data pipeline that tunes itself, and at whose end TensorFlow 2.21 waits for the
    # tuning thread to wake up: 10 ms, 20 ms, ... 41 s, 82 s after the start. Here is nothing to tune.
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(arrays).prefetch(2).with_options(options)


def jit_compile() -> bool | str:
    """Argument of `model.compile`: on a CPU XLA makes TensorFlow slower, and compiles anew for each image size."""
    return False if keras.backend.backend() == "tensorflow" and not _accelerators() else "auto"


def native_precision() -> str:
    """The dtype policy in which the accelerator, or else the processor, is fastest."""
    return "mixed_bfloat16" if _accelerators() or _bfloat16_instructions() else "float32"


def machine() -> str:
    """Processor architecture, usable cores, instructions for bfloat16, accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([platform.machine(), f"{cores} cores", *_bfloat16_instructions(), *_accelerators()])


def _accelerators() -> list[str]:
    """Names of the devices that are not processors, such as "gpu:0", or with JAX "NVIDIA H100 80GB HBM3"."""
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if keras.backend.backend() == "torch":  # Keras has no list for it.
        import torch

        kind = torch.accelerator.current_accelerator()
        return [f"{kind}:{number}" for number in range(torch.accelerator.device_count())]
    # Not list_devices("gpu"): with JAX it raises where there is none.
    return [device for device in keras.distribution.list_devices() if not device.lower().startswith("cpu")]


def _bfloat16_instructions() -> list[str]:
    """The processor's instructions for products in bfloat16, by their names in /proc/cpuinfo."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return sorted({"avx512_bf16", "amx_bf16"} & set(flags))
