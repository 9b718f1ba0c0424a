"""
Extract features
================

Computes feature vectors of pictures and prints the most similar picture of each:

.. code-block:: sh

    python feature_extraction.py                  # the pictures in examples/pictures
    python feature_extraction.py a.jpg b.jpg      # other pictures
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import allconvnet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compute feature vectors of pictures and compare them.")
    pictures = sorted(Path(sys.argv[0]).with_name("pictures").glob("*.*g"))
    parser.add_argument("paths", nargs="*", type=Path, default=pictures, help="two or more pictures")
    parser.add_argument("--output", type=Path, help="also write the features to this .npy file, float32 [N, 3840]")
    arguments = parser.parse_args()
    if len(arguments.paths) < 2:
        parser.error("pass two or more pictures")

    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    extractor = allconvnet.feature_extractor("all_cnn_c", weights="transfer")
    features = extractor.predict(allconvnet.load_images(arguments.paths, fit="crop"), verbose=0)
    if arguments.output:
        np.save(arguments.output, features)

    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    for path, row in zip(arguments.paths, likeness, strict=True):
        print(f"{path.name:16} is most like {arguments.paths[row.argmax()].name:16} cosine {row.max():5.2f}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # Such as no picture, or no such weights.
        sys.exit(str(error))
