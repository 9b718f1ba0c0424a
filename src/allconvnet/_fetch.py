"""Downloads missing files, verifies and caches them: the only module that knows pooch."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from allconvnet._errors import check_number
from allconvnet._weights import FOLDER, weights_info

__all__ = ["fetch_weights"]

# Archive and SHA-256.
_DATASETS = {
    "cifar10": ("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    "cifar100": ("cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
}
_LIMIT = 1 << 30  # Bytes of a file whose size is not known.


def fetch_weights(name: str) -> Path:
    """The verified local file of published weights.

    Weights in the package need no network. Others are downloaded once from the mirror that the environment variable
    ALLCONVNET_WEIGHTS_URL names (the URL of a folder with the files) to ALLCONVNET_CACHE_DIR, by default the user's
    cache folder.

    Args:
        name: full name, `variant.tag`, as `weights_info` takes it.

    Returns:
        Path of a file whose SHA-256 is that of the record.

    Raises:
        ValueError: there are no such weights.
        OSError: the download failed, or the installed file is damaged.

    Example:
        >>> import allconvnet
        >>> allconvnet.fetch_weights("all_cnn_c.cifar10_v4").name
        'all_cnn_c.cifar10_v4.weights.h5'
    """
    record = weights_info(name)
    packaged = FOLDER / record.file
    if packaged.exists():
        if _sha256(packaged) != record.sha256:
            raise OSError(f"The installed file {str(packaged)!r} is damaged: reinstall allconvnet.")
        return packaged
    cached = _cache() / record.file
    if cached.exists() and _sha256(cached) == record.sha256:
        return cached
    mirror = os.environ.get("ALLCONVNET_WEIGHTS_URL")
    if not mirror:
        place = f"the URL of a folder with {record.file!r}"
        raise OSError(f"{record.name!r} is not in the package. Set ALLCONVNET_WEIGHTS_URL to {place}.")
    return _download(f"{mirror.rstrip('/')}/{record.file}", record.sha256, record.file, limit=record.size)


def fetch_url(url: str) -> Path:
    """The verified local file of `https://host/path/file.h5#sha256=<64 hexadecimal digits>` (or http)."""
    address, _, fragment = url.partition("#")
    digest = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    try:
        parts, shown = urlsplit(address), _public(address)
    except ValueError:  # A port that is no number, or a malformed IPv6 address.
        parts, shown = urlsplit(""), address.partition("?")[0].rpartition("@")[2]
    if not digest or parts.scheme not in ("http", "https") or not parts.hostname:
        form = "https://host/file.weights.h5#sha256=<64 hexadecimal digits>"
        raise ValueError(f"A weights URL must look like {form!r}; `sha256sum` prints them. Received: {shown!r}.")
    sha256 = digest[1].lower()
    return _download(address, sha256, f"{sha256[:16]}-{Path(parts.path).name or 'weights.h5'}")


def fetch_dataset(name: str) -> Path:
    """The archive of "cifar10" or "cifar100", from its home or the mirror in ALLCONVNET_CIFAR10_URL."""
    file, sha256 = _DATASETS[name]
    url = os.environ.get(f"ALLCONVNET_{name.upper()}_URL") or f"https://www.cs.toronto.edu/~kriz/{file}"
    try:
        return _download(url, sha256, file)
    except OSError as error:
        raise OSError(f"{error} If you have the data set, set ALLCONVNET_{name.upper()} to its folder.") from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cache() -> Path:
    import pooch

    return Path(os.environ.get("ALLCONVNET_CACHE_DIR") or pooch.os_cache("allconvnet")).expanduser()


def _public(url: str) -> str:
    """The URL without credentials, which may stand in its query too."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


class _Bounded(io.FileIO):
    """A file that refuses more than `limit` bytes; pooch writes the download into it."""

    limit = _LIMIT

    def write(self, chunk) -> int:
        if self.tell() + len(chunk) > self.limit:
            raise OSError(f"the server sent more than {self.limit:,} bytes")
        return super().write(chunk)


def _download(url: str, sha256: str, file: str, limit: int = _LIMIT) -> Path:
    """`file` in the cache, downloaded unless it is there with the right hash."""
    import pooch
    import requests

    folder, shown, timeout = _cache(), _public(url), _timeout()

    def download(_: str, output: str, pup: pooch.Pooch) -> None:
        progress = sys.stderr is not None and sys.stderr.isatty()
        get = pooch.HTTPDownloader(progress, 1 << 16, timeout=timeout, headers={"Accept-Encoding": "identity"})
        with _Bounded(output, "wb") as file:
            file.limit = limit
            get(url, file, pup)

    # pooch logs the URL that it is given, so it is given the one without credentials.
    pup = pooch.create(folder, "", registry={file: f"sha256:{sha256}"}, urls={file: shown}, retry_if_failed=2)
    try:
        return Path(pup.fetch(file, downloader=download))
    except requests.RequestException as error:
        # The text of the error may repeat the URL with its credentials.
        reason = type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"
        raise OSError(f"{shown} could not be downloaded: {reason}. Check the network and the URL.") from None
    except ValueError:
        raise OSError(f"{shown} is not the file asked for, with sha256 {sha256}; nothing was kept.") from None
    except OSError as error:
        raise OSError(f"{shown} could not be saved in {str(folder)!r} (ALLCONVNET_CACHE_DIR): {error}.") from None


def _timeout() -> float:
    """Seconds without a byte from the server after which a try is given up."""
    text = os.environ.get("ALLCONVNET_TIMEOUT", "30")
    seconds = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text
    check_number("ALLCONVNET_TIMEOUT", seconds, 0.001, 1e6)
    return float(seconds)
