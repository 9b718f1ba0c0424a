"""Picture files from strangers: refused with little memory, in little time, with the reason."""

import io
import struct
import sys
import zlib

import bounded
import cv2
import numpy as np
import pytest

from allconvnet import load_image
from allconvnet._picture_headers import max_pixels

IMAGE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 60, 4), "uint8"), (5, 5), 2)
COLORS = np.ascontiguousarray(IMAGE[:, :, :3])


def encode(kind, image=COLORS, *options):
    return cv2.imencode(kind, image, options)[1].tobytes()


def patched(file, at, form, *values):
    return file[:at] + struct.pack(form, *values) + file[at + struct.calcsize(form) :]


def png_with_header(width, height, bits=8):
    file = patched(encode(".png"), 16, ">IIB", width, height, bits)
    return patched(file, 29, ">I", zlib.crc32(file[12:29]))


def tiff(*entries):
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(64)


def with_second_frame(jpeg):
    """The frame that libjpeg takes is the first one, here of 60,000 x 60,000."""
    at = jpeg.index(b"\xff\xc0")
    frame = jpeg[at : at + 19]
    return jpeg[:at] + patched(frame, 5, ">HH", 60_000, 60_000) + frame + jpeg[at + 19 :]


def with_scans(count):
    jpeg = encode(".jpg", COLORS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * count + jpeg[-2:]


def webp_canvas(width, height):
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    body = b"VP8X" + struct.pack("<IB3x", 10, 0) + sides + LOSSY[12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


JPEG, GIF, BMP = encode(".jpg"), encode(".gif"), encode(".bmp")
PROGRESSIVE = encode(".jpg", COLORS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
LOSSY = encode(".webp", COLORS, cv2.IMWRITE_WEBP_QUALITY, 80)
LOSSLESS = encode(".webp", IMAGE, cv2.IMWRITE_WEBP_QUALITY, 101)
FRAME = JPEG.index(b"\xff\xc0") + 5
TOO_LARGE = {
    "png": png_with_header(30_000, 30_000),
    "png, a long row": png_with_header(1_000_000_000, 1),
    "png of 16 bits": png_with_header(5000, 5000, 16),
    "jpeg": patched(JPEG, FRAME, ">HH", 65_000, 65_000),
    "jpeg with garbage before the frame": patched(JPEG, FRAME, ">HH", 65_000, 65_000).replace(
        b"\xff\xc0", b"\0\xff\0\xff\xd0\xff\xff\xc0", 1
    ),
    "jpeg with two frames": with_second_frame(JPEG),
    "progressive jpeg": patched(PROGRESSIVE, PROGRESSIVE.index(b"\xff\xc2") + 5, ">HH", 5000, 5000),
    "gif": patched(GIF, 6, "<HH", 65_535, 65_535),
    "bmp": patched(BMP, 18, "<ii", 30_000, 30_000),
    "bmp from the top": patched(BMP, 18, "<ii", 30_000, -30_000),
    "bmp of OS/2": b"BM" + struct.pack("<IIIIHHHH", 0, 0, 26, 12, 60_000, 60_000, 1, 24) + bytes(64),
    "webp": patched(LOSSY, 26, "<HH", 16_383, 16_383),
    "lossless webp": patched(LOSSLESS, LOSSLESS.index(b"VP8L") + 9, "<I", 0x0FFFFFFF),
    "webp with a canvas": webp_canvas(16_384, 16_384),
    "tiff": tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000)),
    "tiff of sides said twice": tiff((256, 4, 1, 60_000), (256, 3, 1, 8), (257, 4, 1, 60_000)),
    "tiff with a large tile": tiff((256, 3, 1, 8), (257, 3, 1, 8), (322, 4, 1, 32_768), (323, 4, 1, 32_768)),
    "ppm": b"P6\n30000 30000\n255\n" + bytes(100),
    "ppm with comments": b"P6\n# 1 1\r30000#\n#2 2\n 30000 255\n" + bytes(100),
}
DAMAGED = {
    "tiff without a picture": tiff((257, 3, 1, 8)),
    "tiff with a text as width": tiff((256, 2, 1, 8), (257, 3, 1, 8)),
    "tiff whose values lie outside": tiff((256, 4, 9, 1 << 31), (257, 3, 1, 8)),
    "jpeg without a frame": JPEG[:2] + b"\xff\xd9",
    "jpeg that ends in its header": JPEG[:30],
    "png that ends in its header": encode(".png")[:20],
    "webp that ends in its header": encode(".webp")[:18],
    "ppm without a height": b"P6\n8",
    "ppm of spaces": lambda: b"P6" + b" " * 100_000_000,
    "ppm whose height is cut": b"P6\n30000" + b" " * 65_527 + b"30000\n255\n",
    "ppm of many digits": b"P6\n" + b"9" * 5000 + b" 1\n255\n",
}
OTHERS = {
    "many scans": (with_scans(3000), r"The JPEG has 3,\d+ scans. Allowed: 32"),
    "many segments": (lambda: JPEG[:2] + b"\xff\xfe\0\2" * 39_000_000, r"The JPEG has more than 10,000 segments"),
    "tiff of many samples": (
        tiff((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 64), (277, 3, 1, 60_000)),
        r"The TIFF has 3840000 bits a pixel. Allowed: 64",
    ),
    "large file": (lambda: bytes(4 * max_pixels() + 1), r"The picture file is too large. Allowed: 160,000,000 bytes"),
    "jpeg 2000": (encode(".jp2"), r"OpenCV cannot read this as a picture.* Allowed: JPEG, PNG, WebP"),
}
CASES = (
    {name: (file, r"The picture is too large. Received: \d+x\d+ pixels. Allowed: ") for name, file in TOO_LARGE.items()}
    | {name: (file, r"The picture is damaged. Received: [\d,]+ bytes") for name, file in DAMAGED.items()}
    | OTHERS
)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What a process with 200 MB above the loaded library makes of each file, within 5 seconds."""
    if sys.platform != "linux":
        pytest.skip("needs Linux' limit of memory")
    folder = tmp_path_factory.mktemp("pictures")
    for number, (file, _) in enumerate(CASES.values()):
        (folder / str(number)).write_bytes(file() if callable(file) else file)
    paths = [folder / str(number) for number in range(len(CASES))]
    errors = bounded.errors("allconvnet.load_image", *((path,) for path in paths))
    for path in paths:
        path.unlink()
    return dict(zip(CASES, errors, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_refused_in_little_memory_and_time(refusals, name):
    with pytest.raises(ValueError, match=f"^ValueError: {CASES[name][1]}"):
        raise ValueError(refusals[name])


def cut(file):
    """Everywhere near the ends, and at a hundred places between."""
    places = {*range(1, min(60, len(file))), *range(len(file) - 20, len(file)), *range(1, len(file), len(file) // 100)}
    return [file[:place] for place in sorted(places)]


@pytest.mark.parametrize(
    "file",
    [
        JPEG,
        PROGRESSIVE,
        encode(".jpg", COLORS, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        encode(".png"),
        encode(".png", IMAGE),
        LOSSY,
        LOSSLESS,
        GIF,
        BMP,
        encode(".tiff"),
        encode(".ppm"),
    ],
    ids=["jpeg", "progressive", "restarts", "png", "rgba", "webp", "lossless", "gif", "bmp", "tiff", "ppm"],
)
def test_truncated_files_are_refused(file):
    load_image(file)
    for part in cut(file):
        with pytest.raises(ValueError, match=r"cannot read this as a picture|The picture is damaged"):
            load_image(part)


def test_limit_is_set_by_a_variable(monkeypatch):
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "2400")
    assert load_image(encode(".png"), size=None).shape == (40, 60, 3)
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "2399")
    with pytest.raises(ValueError, match=r"Received: 60x40 pixels. Allowed: 2,399 pixels.*ALLCONVNET_MAX_PIXELS"):
        load_image(encode(".png"))
    with pytest.raises(ValueError, match=r"Invalid size. Received: size=\(48, 50\). Allowed: .* 2,399 pixels"):
        load_image(COLORS, size=(48, 50))
    for value in ("0", "many", "1e6", "-1", ""):
        monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", value)
        with pytest.raises(ValueError, match=r"Invalid ALLCONVNET_MAX_PIXELS"):
            load_image(encode(".png"))


def test_half_the_limit_where_decoding_takes_more_memory(monkeypatch):
    control = b"acTL" + struct.pack(">II", 1, 0)
    png = encode(".png")
    animations = {
        "png": png[:33] + struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control)) + png[33:],
        "webp": patched(webp_canvas(60, 40), 20, "B", 2),
    }
    still = [PROGRESSIVE, GIF, encode(".tiff"), encode(".ppm"), encode(".png", COLORS.astype("uint16"))]
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "4799")
    for file in (*still, *animations.values()):
        with pytest.raises(ValueError, match=r"Received: 60x40 pixels. Allowed: 2,399 pixels of this format"):
            load_image(file)
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "4800")
    for file in still:
        assert load_image(file, size=None).shape == (40, 60, 3)


def test_limit_holds_for_pil_images(monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "2399")
    with pytest.raises(ValueError, match=r"Received: 60x40 pixels"):
        load_image(image.open(io.BytesIO(encode(".png"))))


def test_file_objects_are_read_in_part(monkeypatch):
    """One that returns a byte at a time is read to its end; one without an end to the limit."""

    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 100))

    class Endless:
        def read(self, size):
            return bytes(min(size, 1000))

    np.testing.assert_array_equal(load_image(Slow(JPEG)), load_image(JPEG))
    monkeypatch.setenv("ALLCONVNET_MAX_PIXELS", "2500")
    with pytest.raises(ValueError, match=r"picture file is too large. Allowed: 10,000 bytes"):
        load_image(Endless())


def test_blending_takes_no_memory_for_all_pixels():
    """Part by part, it is the same as for all pixels at once."""
    pixels = np.random.default_rng(0).integers(0, 65_536, (300, 401, 4), "uint16")
    whole = np.rint(pixels / 257).astype("uint8")
    alpha = whole[:, :, 3:] / 255
    expected = np.rint(whole[:, :, :3] * alpha + 255 * (1 - alpha)).astype("uint8")
    np.testing.assert_array_equal(load_image(pixels, size=None), expected)
    np.testing.assert_array_equal(load_image(pixels[::2, ::-3], size=None), expected[::2, ::-3])
