"""Files of arrays, as `numpy.savez` writes them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays by name; ValueError names a file that is damaged. Takes no more memory than the file has bytes."""
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                    raise ValueError("it is compressed")
            file.seek(0)
            with np.load(file, allow_pickle=False) as saved:
                return {name: saved[name] for name in saved.files}
        except Exception as error:  # What a damaged file raises depends on the place of the damage.
            raise ValueError(f"{str(path)!r} is damaged: {error}.") from None
