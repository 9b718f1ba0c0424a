"""Teaches a pretrained net new classes, from few pictures.

python transfer_learning.py my_pictures/     # my_pictures/<class name>/*.jpg
python transfer_learning.py                  # 10 classes of CIFAR-100, 20 pictures each (downloads CIFAR-100, 169 MB)

Three steps, each measured on pictures that none of them has seen:

1. a linear probe on the features of the net: seconds, and often good enough;
2. a new head on the net, the layers below frozen;
3. the upper layers too, at a lower learning rate.

Writes transfer.weights.h5, the weights, and transfer.png, which classes are taken for which.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import allconvnet

try:
    import matplotlib
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    sys.exit(f"{error}. This example needs scikit-learn and matplotlib: pip install 'allconvnet[examples]'.")

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Split = tuple[np.ndarray, np.ndarray]
