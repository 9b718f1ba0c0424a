"""Fixtures; TensorFlow's own chatter is kept off the tests' output."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from allconvnet import _specs


@pytest.fixture(autouse=True)
def seeded():
    """Random weights do not depend on the tests that ran before."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def cifar10():
    """The real data set, where ALLCONVNET_CIFAR10 says it is."""
    if not os.environ.get("ALLCONVNET_CIFAR10"):
        pytest.skip("ALLCONVNET_CIFAR10 is not set to a cifar-10-batches-py folder")
    from allconvnet import load_cifar10

    return load_cifar10()


@pytest.fixture(scope="session")
def cifar100():
    """The real data set, where ALLCONVNET_CIFAR100 says it is."""
    if not os.environ.get("ALLCONVNET_CIFAR100"):
        pytest.skip("ALLCONVNET_CIFAR100 is not set to a cifar-100-python folder")
    from allconvnet import load_cifar100

    return load_cifar100()


@pytest.fixture(scope="session")
def transfer(cifar10, cifar100):
    """CIFAR-10 and 50 classes of CIFAR-100."""
    from allconvnet import load_transfer

    return load_transfer()


@pytest.fixture(scope="session")
def toy_cifar10():
    """Two splits in CIFAR-10's shape whose label is plain to see: the color of the image."""
    random = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype="int32") % 10
        colors = np.stack([labels * 25, 250 - labels * 25, (labels % 2) * 200], axis=-1)
        return np.clip(colors[:, None, None] + random.normal(0, 8, (count, 32, 32, 3)), 0, 255).astype("uint8"), labels

    return split(40), split(20)


@pytest.fixture(scope="module")
def tiny():
    """Name of a net of 1,562 parameters for 32x32 images, in the table while a module's tests run."""
    rows = (_specs.Dropout(0.2), _specs.Conv(8, 3, 2), _specs.Conv(16, 3, 2), _specs.Dropout(0.5))
    spec = _specs.Spec(rows, 10, 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_specs.SPECS, "tiny", spec)
        yield "tiny"
