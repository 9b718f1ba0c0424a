"""Files that are not at hand are downloaded, checked and kept: the only module that knows pooch."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from allconvnet._errors import message
from allconvnet._weights import weights_info

if TYPE_CHECKING:
    import h5py

# Archive and its SHA-256.
_DATASETS = {
    "cifar10": ("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
    "cifar100": ("cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
}
_PACKAGE = Path(__file__).parent / "weights"
_TRIES = 3
_READ_TIMEOUT = 30.0  # Seconds without a byte after which a try is given up.


class _DownloadError(OSError):
    """A download that failed, already worded for the user."""


def fetch_weights(name: str) -> Path:
    """The verified local file of published weights.

    Weights that come with the package need no network. Others come from the mirror that the environment variable
    ALLCONVNET_WEIGHTS_URL names (the folder of the files) into the cache: ALLCONVNET_CACHE_DIR, else the user's cache
    folder.

    Args:
        name: `variant.tag`, as in `list_weights()`; the tag may leave out its version.

    Returns:
        Path of a file whose SHA-256 is the one in the table.

    Raises:
        ValueError: there are no such weights.
        OSError: the download failed, or the installed file is damaged.

    Example:
        >>> import allconvnet
        >>> allconvnet.fetch_weights("all_cnn_c.cifar10_v1").name
        'all_cnn_c.cifar10_v1.weights.h5'
    """
    record = weights_info(name)
    packaged = _PACKAGE / record.file
    if packaged.exists():
        found = _sha256(packaged)
        if found != record.sha256:
            raise OSError(
                message(
                    f"The installed file {str(packaged)!r} is damaged",
                    received=f"sha256 {found}",
                    allowed=f"sha256 {record.sha256}",
                    next_step="Install allconvnet again from where it came, with pip install --force-reinstall.",
                )
            )
        return packaged
    mirror = os.environ.get("ALLCONVNET_WEIGHTS_URL")
    cached = _cache() / record.file
    if cached.exists() and _sha256(cached) == record.sha256:
        return cached
    if not mirror:
        raise OSError(
            message(
                f"The weights {record.name!r} do not come with the package",
                received="no ALLCONVNET_WEIGHTS_URL in the environment",
                next_step=f"Set it to the URL of a folder with {record.file!r}.",
            )
        )
    return _download(f"{mirror.rstrip('/')}/{record.file}", record.sha256, record.file)


def fetch_url(url: str) -> Path:
    """The verified local file behind `https://host/path/file.h5#sha256=<64 hexadecimal digits>` (or http)."""
    address, _, fragment = url.partition("#")
    digest = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    try:
        parts, shown = urlsplit(address), _public(address)
    except ValueError:  # No port, or no IPv6 address.
        parts, shown = urlsplit(""), address.partition("?")[0].rpartition("@")[2]
    if not digest or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            message(
                "A URL of weights must name a host and say what the file's hash is",
                received=repr(shown + (f"#{fragment}" if fragment else "")),
                allowed="'https://host/path/file.weights.h5#sha256=<64 hexadecimal digits>' (or http)",
                next_step="`sha256sum` prints it.",
            )
        )
    sha256 = digest[1].lower()
    return _download(address, sha256, f"{sha256[:16]}-{Path(parts.path).name or 'weights.h5'}")


def own_file(weights: str | os.PathLike[str]) -> Path | None:
    """The local file behind a path or a URL of weights; None for anything else, such as a tag."""
    if isinstance(weights, str) and "://" in weights:
        return fetch_url(weights)
    if isinstance(weights, os.PathLike) or (isinstance(weights, str) and weights.endswith((".h5", ".hdf5"))):
        return Path(weights).expanduser()
    return None


def open_weights(path: Path) -> h5py.File:
    """A file of weights, open for reading."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(message("There is no such weights file", received=f"weights={str(path)!r}"))
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            message(
                "This is not an HDF5 file", received=f"weights={str(path)!r} ({error})", allowed=".h5 files of Keras"
            )
        ) from None


def fetch_dataset(name: str) -> Path:
    """The archive of "cifar10" or "cifar100" from its home; ALLCONVNET_CIFAR10_URL (..100..) names a mirror of it."""
    file, sha256 = _DATASETS[name]
    url = os.environ.get(f"ALLCONVNET_{name.upper()}_URL") or f"https://www.cs.toronto.edu/~kriz/{file}"
    return _download(url, sha256, file)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cache() -> Path:
    folder = os.environ.get("ALLCONVNET_CACHE_DIR")
    if folder:
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("allconvnet"))


def _public(url: str) -> str:
    """The URL as it may be shown: without credentials, which may stand in its query as well."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def _download(url: str, sha256: str, file: str) -> Path:
    """`file` in the cache, downloaded unless it is there with the right hash."""
    import pooch

    folder, shown, limit = _cache(), _public(url), _time_limit()
    try:
        # pooch logs the URL that it is given. It checks the hash before the file takes its final name.
        found = pooch.retrieve(
            shown,
            f"sha256:{sha256}",
            fname=file,
            path=folder,
            downloader=lambda _, output, __: _stream(url, Path(output), limit),
        )
    except _DownloadError:
        raise
    except ValueError as error:
        raise OSError(
            message(
                f"What came from {shown} is not the file that was asked for",
                received=str(error),
                allowed=f"sha256 {sha256}",
                next_step="Nothing was kept. A proxy's error page or an outdated mirror is the likely cause.",
            )
        ) from None
    except OSError as error:
        raise OSError(
            message(
                "The cache folder cannot be written",
                received=f"{str(folder)!r}: {error}",
                next_step="Set ALLCONVNET_CACHE_DIR to a folder that can be.",
            )
        ) from None
    return Path(found)


def _stream(url: str, output: Path, limit: float) -> None:
    """Writes what `url` serves to `output`, in up to three tries and `limit` seconds for them all."""
    import requests
    import urllib3

    deadline = time.monotonic() + limit
    shown = _public(url)
    for number in range(1, _TRIES + 1):
        try:
            with output.open("wb") as file:
                status = _request(url, file, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            # The error's text may repeat the URL with its credentials; its name is enough.
            reason = type(error).__name__
        else:
            if status == 200:
                return
            reason = f"HTTP status {status}"
            if status < 500:
                break
        if number == _TRIES or time.monotonic() + 2**number / 10 > deadline:
            break
        time.sleep(2**number / 10)
    late = time.monotonic() >= deadline
    raise _DownloadError(
        message(
            f"{shown} could not be downloaded",
            received=f"{reason} in try {number} of {_TRIES}" + (f", after {limit:g} seconds" if late else ""),
            next_step="Check the network and the URL; ALLCONVNET_TIMEOUT sets the seconds a download may take.",
        )
    )


def _time_limit() -> float:
    text = os.environ.get("ALLCONVNET_TIMEOUT", "600")
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit > 0:
        raise ValueError(
            message("Bad time limit", received=f"ALLCONVNET_TIMEOUT={text!r}", allowed="seconds, a number above 0")
        )
    return limit


def _request(url: str, file: IO[bytes], deadline: float) -> int:
    """One try: the HTTP status, the body in `file` when it is 200."""
    import requests
    from tqdm import tqdm

    parts = urlsplit(url)
    auth = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
    address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    timeout = max(0.01, min(_READ_TIMEOUT, deadline - time.monotonic()))
    headers = {"Accept-Encoding": "identity"}
    with requests.get(address, auth=auth, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code != 200:
            return response.status_code
        length = int(response.headers.get("Content-Length") or 0)
        # disable=None shows it on a terminal only.
        bar = tqdm(total=length or None, unit="B", unit_scale=True, desc=Path(parts.path).name, disable=None)
        with bar:
            # read1 returns what has come, so that a server that sends a byte a second meets the deadline.
            while chunk := response.raw.read1(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
                if time.monotonic() > deadline:
                    raise requests.Timeout
        if length and file.tell() != length:
            raise requests.ConnectionError
    return 200
