"""Downloads from a real server on 127.0.0.1 that answers as servers do on bad days."""

import contextlib
import gzip
import hashlib
import http.server
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import bounded
import pooch
import pytest
import test_data

from allconvnet import (
    AllConvNet,
    _fetch,
    _weights,
    data,
    fetch_weights,
    load_cifar10,
    load_cifar100,
    save_weights,
    weights_info,
)
from allconvnet._fetch import _download, fetch_dataset, fetch_url

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
SECRETS = ("hunter2", "t0ken")
BOMB = gzip.compress(bytes(1 << 20)) * 500


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, start, text):
        """Sends a byte of the text every 20 ms, for 4 seconds at most."""
        with contextlib.suppress(OSError):  # The client has hung up, as it should.
            self.wfile.write(start)
            for byte in text[:200]:
                self.wfile.write(bytes([byte]))
                threading.Event().wait(0.02)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.requests.append((self.path, self.headers.get("Authorization")))
        if path in self.server.files:
            self.answer(200, self.server.files[path])
        elif path == "/flaky" and len(self.server.requests) < 3:
            self.answer(503)
        elif path == "/flaky":
            self.answer(200, BODY)
        elif path == "/down":
            self.answer(500)
        elif path == "/truncated":
            self.answer(200, BODY[:100], length=len(BODY))
        elif path == "/private":
            self.answer(200 if self.headers.get("Authorization") else 401, BODY)
        elif path == "/moved":
            self.answer(302, Location=f"{self.server.other}/file")
        elif path == "/slow_status":
            self.drip(b"HTTP/1.1 ", b"0" * 1000)
        elif path == "/slow_headers":
            self.drip(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 1000)
        elif path == "/continue":
            self.drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        elif path == "/slow_body":
            self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n", BODY)
        elif path == "/slow_chunks":
            self.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000)
        elif path in ("/packed", "/moved_packed", "/error_packed"):
            status = {"/packed": 200, "/moved_packed": 302, "/error_packed": 404}[path]
            self.answer(status, BOMB, **{"Content-Encoding": "gzip", "Location": f"{self.server.url}/file"})
        elif path in ("/silent", "/endless", "/moved_endless"):
            self.send_response(302 if path == "/moved_endless" else 200)
            self.send_header("Location", f"{self.server.url}/file")
            self.end_headers()
            try:
                while path != "/silent":
                    self.wfile.write(BODY)
                self.wfile.write(b"x")
                self.wfile.flush()
                threading.Event().wait(1)
            except OSError:  # The client has hung up, as it should.
                pass
        else:
            self.answer(404)


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.files, server.other = [], {"/file": BODY}, ""
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture
def server():
    server = serve()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)  # Between its tries.
    monkeypatch.setenv("ALLCONVNET_CACHE_DIR", str(folder))
    for name in ("ALLCONVNET_WEIGHTS_URL", "ALLCONVNET_CIFAR10_URL", "ALLCONVNET_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_downloads_once(server, cache):
    for _ in range(2):
        path = fetch_url(f"{server.url}/file#sha256={SHA256}")
        assert path.read_bytes() == BODY
    assert path.parent == cache
    assert len(server.requests) == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bar_in_a_terminal(server, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fetch_url(f"{server.url}/file#sha256={SHA256}")
    assert ("10.2k/10.2k" in capsys.readouterr().err) == terminal


def test_data_set_is_downloaded_once(server, cache, tmp_path, monkeypatch):
    content = test_data.archive(tmp_path, noise=False).read_bytes()
    server.files["/cifar-10-python.tar.gz"] = content
    monkeypatch.setattr(data, "_IMAGES", (20, 4))
    monkeypatch.setitem(_fetch._DATASETS, "cifar10", (hashlib.sha256(content).hexdigest(), len(content)))
    monkeypatch.delenv("ALLCONVNET_CIFAR10", raising=False)
    monkeypatch.setenv("ALLCONVNET_CIFAR10_URL", f"{server.url}/cifar-10-python.tar.gz")
    for _ in range(2):
        test_data.check(load_cifar10())
    assert [path.name for path in cache.iterdir()] == ["cifar-10-python.tar.gz"]
    assert len(server.requests) == 1


def test_damaged_copy_is_replaced(server):
    url = f"{server.url}/file#sha256={SHA256.upper()}"
    fetch_url(url).write_bytes(b"damaged")
    assert fetch_url(url).read_bytes() == BODY
    assert len(server.requests) == 2


def test_wrong_hash_leaves_nothing(server, cache):
    with pytest.raises(OSError, match=rf"/file does not have the expected SHA-256 {'0' * 64}; nothing was kept"):
        fetch_url(f"{server.url}/file#sha256={'0' * 64}")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "requests", "match"),
    [
        ("none", 3, "HTTP status 404"),
        ("down", 3, "HTTP status 500"),
        ("truncated", 3, "ChunkedEncodingError"),
        ("private", 3, "HTTP status 401"),
    ],
)
def test_failures(server, cache, path, requests, match):
    with pytest.raises(OSError, match=rf"/{path} could not be downloaded: {match}. Check the network"):
        _download(f"{server.url}/{path}", SHA256, "x")
    assert len(server.requests) == requests
    assert list(cache.iterdir()) == []


def test_retries(server):
    assert _download(f"{server.url}/flaky", SHA256, "x").read_bytes() == BODY
    assert len(server.requests) == 3


def test_no_server(server):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"could not be downloaded: ConnectionError. Check the network"):
        _download(f"{url}/file", SHA256, "x")


def test_more_than_was_asked_for(server, cache):
    with pytest.raises(OSError, match=r"/endless could not be downloaded: the server sent more than 20,000 bytes"):
        _download(f"{server.url}/endless", SHA256, "x", limit=20_000)
    assert list(cache.iterdir()) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["silent", "slow_status", "slow_headers", "continue", "slow_body", "slow_chunks"])
def test_slow_server(server, cache, monkeypatch, path):
    """No byte comes; or every byte comes within the time limit, but few do."""
    monkeypatch.setenv("ALLCONVNET_TIMEOUT", "0.5")
    started = time.monotonic()
    with pytest.raises(OSError, match=rf"/{path} could not be downloaded: less than 16,384 bytes came in 0.5 seconds"):
        _download(f"{server.url}/{path}", SHA256, "x")
    assert time.monotonic() - started < 3
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("path", ["moved_endless", "moved_packed"])
def test_redirect_with_a_body(server, path):
    assert _download(f"{server.url}/{path}", SHA256, "x").read_bytes() == BODY


def test_packed_body(server):
    """What the server calls packed stays as it is, and takes no memory."""
    assert _download(f"{server.url}/packed", hashlib.sha256(BOMB).hexdigest(), "x").read_bytes() == BOMB


def test_memory_of_refusals(server):
    paths = ("endless", "packed", "moved_endless", "moved_packed", "error_packed")
    downloads = [(f"{server.url}/{path}", "0" * 64, "x", 20_000) for path in paths]
    for path, error in zip(paths, bounded.errors("allconvnet._fetch._download", *downloads), strict=True):
        assert error.startswith(f"OSError: {server.url}/{path} ")


def test_known_sizes(server, cache, unpackaged, monkeypatch):
    """Nothing longer is kept on the disk, even for a while."""
    monkeypatch.setenv("ALLCONVNET_WEIGHTS_URL", f"{server.url}/zoo")
    server.files[f"/zoo/{unpackaged.file}"] = BODY + b"x"
    with pytest.raises(OSError, match=rf"the server sent more than {len(BODY):,} bytes"):
        fetch_weights(unpackaged.name)
    limits = []
    monkeypatch.setattr(_fetch, "_download", lambda *_, limit: limits.append(limit))
    for name in ("cifar10", "cifar100"):
        fetch_dataset(name)
    assert limits == [170_498_071, 169_001_437]


def test_cache_is_readable_by_all(server):
    """Where the umask lets it."""
    before = os.umask(0o022)
    try:
        assert _download(f"{server.url}/file", SHA256, "x").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_bad_time_limit(server, monkeypatch, text):
    monkeypatch.setenv("ALLCONVNET_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"^Invalid ALLCONVNET_TIMEOUT. Received: ALLCONVNET_TIMEOUT='?{text}"):
        _download(f"{server.url}/file", SHA256, "x")


def test_credentials_are_used_and_never_shown(server, capfd, caplog):
    pooch.get_logger().addHandler(caplog.handler)
    address = server.url.replace("http://", "http://user:hunter2@")
    assert _download(f"{address}/private?token=t0ken", SHA256, "x").read_bytes() == BODY
    assert server.requests[0][1].startswith("Basic ")
    assert server.requests[0][0] == "/private?token=t0ken"
    errors = []
    for path in ("down", "none", "file"):
        with pytest.raises(OSError, match=server.url) as caught:
            _download(f"{address}/{path}?token=t0ken", "0" * 64, "y")
        errors.append(f"{caught.value!s} {caught.value!r}")
    with pytest.raises(ValueError, match="A weights URL must look like") as caught:
        fetch_url(f"{address}/file?token=t0ken")
    output = capfd.readouterr()
    pooch.get_logger().removeHandler(caplog.handler)
    text = "\n".join([*errors, str(caught.value), caplog.text, output.out, output.err])
    assert "Downloading file" in caplog.text
    assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("user", ["u:hunter2{}x", "u:12{}hunter2", "u{}hunter2:x", "u:a{}b{}hunter2", "u:hunter2://{}"])
@pytest.mark.parametrize("mark", ["#", "?", "@", "/", ":", "://", "[", "%", "\\"])
@pytest.mark.parametrize("end", ["", "?token=t0ken", "?token=t0ken@t0ken", "?a=http://t0ken@t0ken"])
def test_credentials_of_any_spelling(monkeypatch, user, mark, end):
    monkeypatch.setattr(_fetch, "_download", lambda url, *_, **__: _fetch._without_credentials(url))
    address = f"http://{user.format(mark, mark)}@127.0.0.1:1/x.h5{end}"
    for function in (lambda: fetch_url(f"{address}#sha256={SHA256}"), lambda: fetch_url(address)):
        try:
            text = function()
        except ValueError as error:
            text = str(error)
        assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "*", "\u2603..", "127.0.0.1 x", "host:port", "[::1"])
def test_hosts_that_are_none(host):
    with pytest.raises(OSError, match="could not be downloaded: "):
        _download(f"http://user:hunter2@{host}/x", SHA256, "x")


def test_redirect_does_not_forward_credentials(server):
    other = serve()
    try:
        # Another name of the same address is another host.
        server.other = other.url.replace("127.0.0.1", "localhost")
        _download(f"{server.url.replace('http://', 'http://user:hunter2@')}/moved", SHA256, "x")
        assert server.requests[0][1]
        assert other.requests == [("/file", None)]
    finally:
        other.shutdown()
        other.server_close()


def test_at_the_same_time(server):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: _download(f"{server.url}/file", SHA256, "x"), range(4)))
    assert {path.read_bytes() for path in paths} == {BODY}


@pytest.mark.parametrize(
    "url",
    [
        "https://host/x.weights.h5",
        "https://host/x.weights.h5#sha256=abc",
        f"ftp://host/x.weights.h5#sha256={SHA256}",
        f"https:///x.weights.h5#sha256={SHA256}",
        f"https://host/x.weights.h5#md5={SHA256}",
        f"https://host#sha256={SHA256}",
        f"https://user:12#34@host/x.weights.h5#sha256={SHA256}",
        f"https://user:12?34@host/x.weights.h5#sha256={SHA256}",
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError, match=r"A weights URL must look like 'https://host/file.weights.h5#sha256=<64 hex"):
        fetch_url(url)


def test_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ALLCONVNET_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"could not be saved in .*cache' \(ALLCONVNET_CACHE_DIR\)"):
        _download(f"{server.url}/file", SHA256, "x")


@pytest.fixture
def unpackaged(monkeypatch):
    """A record of weights that do not come with the package."""
    record = replace(weights_info("all_cnn_c.cifar10"), tag="cifar10_v99", sha256=SHA256, size=len(BODY))
    monkeypatch.setitem(_weights.WEIGHTS, record.name, record)
    return record


@pytest.mark.parametrize("slash", ["", "/"])
def test_mirror(server, unpackaged, monkeypatch, slash):
    server.files[f"/zoo/{unpackaged.file}"] = BODY
    monkeypatch.setenv("ALLCONVNET_WEIGHTS_URL", f"{server.url}/zoo{slash}")
    path = fetch_weights(unpackaged.name)
    assert path.name == unpackaged.file
    assert path.read_bytes() == BODY
    monkeypatch.delenv("ALLCONVNET_WEIGHTS_URL")
    assert fetch_weights(unpackaged.name) == path
    assert len(server.requests) == 1


def test_damaged_installation(tmp_path, monkeypatch):
    record = weights_info("model_a.cifar10_v1")
    (tmp_path / record.file).write_bytes(b"damaged")
    monkeypatch.setattr(_fetch, "FOLDER", tmp_path)
    with pytest.raises(OSError, match=rf"{record.file}' is damaged: reinstall allconvnet"):
        fetch_weights(record.name)


def test_model_from_a_url(server, tmp_path):
    model = AllConvNet("strided_cnn_c", weights=None, classes=2)
    save_weights(model, tmp_path / "x.weights.h5", variant="strided_cnn_c", class_names=["cat", "dog"])
    content = (tmp_path / "x.weights.h5").read_bytes()
    server.files["/x.weights.h5"] = content
    url = f"{server.url}/x.weights.h5#sha256={hashlib.sha256(content).hexdigest()}"
    assert AllConvNet("strided_cnn_c", weights=url).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("name", "load", "sha256"),
    [
        ("cifar10", load_cifar10, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
        ("cifar100", load_cifar100, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
    ],
)
def test_archive_is_checked(name, load, sha256, server, cache, monkeypatch):
    monkeypatch.delenv(f"ALLCONVNET_{name.upper()}", raising=False)
    monkeypatch.setenv(f"ALLCONVNET_{name.upper()}_URL", f"{server.url}/file")
    for function in (lambda: fetch_dataset(name), load):
        with pytest.raises(OSError, match=sha256):
            function()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_no_copy_and_no_mirror(cache, unpackaged, content):
    if content:
        cache.mkdir()
        (cache / unpackaged.file).write_bytes(content)
    with pytest.raises(
        OSError, match=r"is not in the package. Set ALLCONVNET_WEIGHTS_URL to the URL of a folder with 'all_cnn_c"
    ):
        fetch_weights(unpackaged.name)
