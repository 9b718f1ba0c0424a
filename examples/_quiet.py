"""Imports Keras without TensorFlow's start-up messages, for the examples in this folder.

TensorFlow's C++ libraries write them to file descriptor 2 while they load, whatever TF_CPP_MIN_LOG_LEVEL is.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # For later messages.

_stderr, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import keras as keras
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nowhere)
