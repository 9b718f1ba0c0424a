"""Downloads missing files, verifies and caches them: the only module that knows pooch."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from pathlib import Path
from typing import IO, Any

from allconvnet._errors import check_number
from allconvnet._files import sha256_of
from allconvnet._weights import FOLDER, weights_info

__all__ = ["fetch_weights"]

# SHA-256 and number of bytes of the archives.
_DATASETS = {
    "cifar10": ("6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071),
    "cifar100": ("85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", 169_001_437),
}
_LIMIT = 1 << 30  # Bytes of a file from a user's URL.
_BLOCK = 1 << 14  # Bytes that must arrive within ALLCONVNET_TIMEOUT, unless they are the last.


def fetch_weights(name: str) -> Path:
    """The verified local file of published weights.

    Weights in the package need no network. Others are downloaded once, from ALLCONVNET_WEIGHTS_URL (the URL of a folder
    with the files) to ALLCONVNET_CACHE_DIR (by default the user's cache folder). Both are environment variables.

    Args:
        name: full name, `variant.tag`, as `weights_info` takes it.

    Returns:
        Path of a file whose SHA-256 is that of the record.

    Raises:
        ValueError: there are no such weights.
        OSError: the download failed, or the installed file is damaged.

    Example:
        >>> import allconvnet
        >>> allconvnet.fetch_weights("all_cnn_c.cifar10_v5").name
        'all_cnn_c.cifar10_v5.weights.h5'
    """
    record = weights_info(name)
    packaged = FOLDER / record.file
    if packaged.is_file():
        if sha256_of(packaged) != record.sha256:
            raise OSError(f"The installed file {str(packaged)!r} is damaged: reinstall allconvnet.")
        return packaged
    cached = _cache() / record.file
    if cached.is_file() and sha256_of(cached) == record.sha256:
        return cached
    mirror = os.environ.get("ALLCONVNET_WEIGHTS_URL")
    if not mirror:
        place = f"the URL of a folder with {record.file!r}"
        raise OSError(f"{record.name!r} is not in the package. Set ALLCONVNET_WEIGHTS_URL to {place}.")
    return _download(f"{mirror.rstrip('/')}/{record.file}", record.sha256, record.file, limit=record.size)


def fetch_url(url: str) -> Path:
    """The verified local file of `https://host/path/file.h5#sha256=<64 hexadecimal digits>` (or http)."""
    parts = re.fullmatch(r"(https?://[^/?#]+(/[^?#]*)(?:\?[^#]*)?)#sha256=([0-9a-f]{64})", url, re.IGNORECASE)
    if not parts:
        form, shown = "https://host/file.weights.h5#sha256=<64 hexadecimal digits>", _without_credentials(url)
        raise ValueError(f"A weights URL must look like {form!r}; `sha256sum` prints the digits. Received: {shown!r}.")
    sha256 = parts[3].lower()
    name = re.sub(r"[^\w.-]", "_", Path(parts[2]).name)[-100:] or "weights.h5"
    return _download(parts[1], sha256, f"{sha256[:16]}-{name}")


def fetch_dataset(name: str) -> Path:
    """The archive of "cifar10" or "cifar100", from its home or the mirror in ALLCONVNET_CIFAR10_URL."""
    (sha256, size), file = _DATASETS[name], f"cifar-{name.removeprefix('cifar')}-python.tar.gz"
    url = os.environ.get(f"ALLCONVNET_{name.upper()}_URL") or f"https://www.cs.toronto.edu/~kriz/{file}"
    try:
        return _download(url, sha256, file, limit=size)
    except OSError as error:
        raise OSError(f"{error} If you have the data set, set ALLCONVNET_{name.upper()} to its folder.") from None


def _cache() -> Path:
    import pooch

    return Path(os.environ.get("ALLCONVNET_CACHE_DIR") or pooch.os_cache("allconvnet")).expanduser()


def _without_credentials(url: str) -> str:
    """The URL without credentials, which may stand before an @ or in the query."""
    address, *rest = re.split(r"[?#]", url, maxsplit=1)
    if "@" in "".join(rest):  # The password has a ? or # in it, or the query an @.
        return "a URL with @ after ? or #"
    return re.sub(r"^(https?://)?.*@", r"\1", address, flags=re.DOTALL)


def _leave_out_body(response, **_) -> None:
    """Hook of requests: files stay packed, and bodies of redirects, which requests would load, are left out."""
    response.raw.headers.pop("Content-Encoding", None)
    if response.is_redirect or not response.ok:
        response.close()
        response.raw = io.BytesIO()


class _Download(threading.Thread):
    """A download in a thread of its own, which can be given up whatever it waits for.

    The time limit of requests starts anew with every byte: a server that sends one a second outlasts it.
    """

    def __init__(self, url: str, file: IO[bytes], limit: int, timeout: float) -> None:
        super().__init__(daemon=True)
        self.url, self.file, self.limit, self.timeout = url, file, limit, timeout
        self.received = 0
        self.error: Exception | None = None

    def run(self) -> None:
        import requests
        from tqdm import tqdm

        headers, hooks = {"Accept-Encoding": "identity"}, {"response": _leave_out_body}
        hidden = sys.stderr is None or not sys.stderr.isatty()
        try:
            with requests.get(
                self.url, stream=True, timeout=2 * self.timeout, headers=headers, hooks=hooks
            ) as response:
                response.raise_for_status()
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdecimal() else None
                with tqdm(total=total, unit="B", unit_scale=True, disable=hidden) as bar:
                    for block in response.iter_content(_BLOCK):
                        self.received += len(block)
                        if self.received > self.limit:
                            raise ConnectionAbortedError(f"the server sent more than {self.limit:,} bytes")
                        self.file.write(block)
                        bar.update(len(block))
        except OSError as error:
            self.error = error
        except Exception as error:  # Of urllib3, for what is no host; of the file, once it was given up and closed.
            self.error = requests.exceptions.InvalidURL(type(error).__name__)

    def finish(self) -> None:
        """Waits for the end as long as blocks arrive."""
        self.start()
        before = -_BLOCK
        while self.is_alive() and self.received >= before + _BLOCK:
            before = self.received
            self.join(self.timeout)
        if self.is_alive():
            raise TimeoutError(f"less than {_BLOCK:,} bytes came in {self.timeout:g} seconds (ALLCONVNET_TIMEOUT)")
        if self.error:
            raise self.error


def _download(url: str, sha256: str, file: str, limit: int = _LIMIT) -> Path:
    """`file` in the cache, downloaded unless it is there with the right hash."""
    import pooch
    import requests

    folder, shown, text = _cache(), _without_credentials(url), os.environ.get("ALLCONVNET_TIMEOUT", "30")
    timeout: Any = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text
    check_number("ALLCONVNET_TIMEOUT", timeout, 0.001, 1e6)

    def download(_: str, output: str, pup: pooch.Pooch) -> None:
        os.remove(output)  # pooch made it readable by its owner only; a new file has the usual permissions.
        with open(output, "xb") as file:
            _Download(url, file, limit, timeout).finish()

    # pooch logs the URL that it is given, so it is given the one without credentials.
    pup = pooch.create(folder, "", registry={file: f"sha256:{sha256}"}, urls={file: shown}, retry_if_failed=2)
    try:
        return Path(pup.fetch(file, downloader=download))
    except requests.RequestException as error:
        # The text of the error may repeat the URL with its credentials.
        reason = type(error).__name__ if error.response is None else f"HTTP status {error.response.status_code}"
        raise OSError(f"{shown} could not be downloaded: {reason}. Check the network and the URL.") from None
    except ValueError:
        raise OSError(f"{shown} does not have the expected SHA-256 {sha256}; nothing was kept.") from None
    except (TimeoutError, ConnectionError) as error:
        raise OSError(f"{shown} could not be downloaded: {error}.") from None
    except OSError as error:
        raise OSError(f"{shown} could not be saved in {str(folder)!r} (ALLCONVNET_CACHE_DIR): {error}.") from None
