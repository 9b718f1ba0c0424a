"""
Extract features
================

Turns pictures into feature vectors and says which pictures are most alike::

    python feature_extraction.py                  # the pictures beside this file
    python feature_extraction.py a.jpg b.jpg      # others
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import allconvnet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Feature vectors of pictures, and their nearest neighbors.")
    pictures = sorted(Path(sys.argv[0]).with_name("pictures").glob("*.*g"))
    parser.add_argument("paths", nargs="*", type=Path, default=pictures, help="two pictures or more")
    parser.add_argument("--output", type=Path, help="an .npy file for the features, float32 [N, 768]")
    arguments = parser.parse_args()
    if len(arguments.paths) < 2:
        parser.error("two pictures or more are needed to compare them")

    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    extractor = allconvnet.feature_extractor("all_cnn_c")
    features = extractor.predict(allconvnet.load_images(arguments.paths, fit="crop"), verbose=0)
    if arguments.output:
        np.save(arguments.output, features)

    # Centered, so that what all pictures have in common does not count as likeness.
    vectors = features - features.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    likeness = vectors @ vectors.T - 2 * np.eye(len(vectors))
    for path, row in zip(arguments.paths, likeness, strict=True):
        print(f"{path.name:16} is most like {arguments.paths[row.argmax()].name:16} cosine {row.max():5.2f}")


if __name__ == "__main__":
    main()
