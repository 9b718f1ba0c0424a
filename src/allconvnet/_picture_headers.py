"""Size of an encoded picture, from its header: what decoding takes is known before it begins."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from struct import unpack_from

from allconvnet._errors import check_number

_MAX_SCANS = 32  # Of a JPEG, each of which goes over the whole picture; encoders write up to a dozen.
_MAX_SEGMENTS = 10_000  # Of a JPEG, scans included: a color profile and metadata take some hundreds.
_MAX_PNM_HEADER = 1 << 16  # Bytes, comments included.


def max_pixels() -> int:
    """Pixels that a picture may have."""
    text = os.environ.get("ALLCONVNET_MAX_PIXELS", "40000000")
    pixels = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else text
    check_number("ALLCONVNET_MAX_PIXELS", pixels, 1, whole=True)
    return int(pixels)


def max_bytes() -> int:
    """Bytes that a picture file may have: those of its pixels, uncompressed."""
    return 4 * max_pixels()


def check_pixel_count(width: int, height: int, memory_factor: int = 1) -> None:
    """Raises ValueError if there are too many pixels; a `memory_factor` of 2 halves the number allowed."""
    limit = max_pixels() // memory_factor
    if width * height > limit:
        raise ValueError(f"The picture is too large. Received: {width}x{height} pixels. Allowed: {limit:,} pixels "
                         "of this format; the environment variable ALLCONVNET_MAX_PIXELS changes this.")  # fmt: skip


def check_header(encoded: bytes) -> None:
    """Raises ValueError unless this is a picture of a known format and not too large."""
    if len(encoded) > max_bytes():
        raise ValueError(f"The picture file is too large. Allowed: {max_bytes():,} bytes, four for each pixel of "
                         "ALLCONVNET_MAX_PIXELS.")  # fmt: skip
    for signature, read in _FORMATS.items():
        if re.match(signature, encoded, re.DOTALL):
            try:
                width, height, memory_factor = read(encoded)
            except (IndexError, KeyError, TypeError, struct.error):
                raise ValueError(f"The picture is damaged. Received: {len(encoded):,} bytes.") from None
            return check_pixel_count(width, height, memory_factor)
    raise ValueError(f"OpenCV cannot read this as a picture. Received: {len(encoded):,} bytes. Allowed: JPEG, PNG, "
                     "WebP, GIF, TIFF, BMP or PNM.")  # fmt: skip


def _jpeg(data: bytes) -> tuple[int, int, int]:
    """Follows the markers as libjpeg does, which skips what lies between them and takes the first frame."""
    marker, frames, scans, segments, place = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])", re.DOTALL), [], 0, 0, 2
    while (found := marker.search(data, place)) and found[1] != b"\xd9":
        kind, place = found[1][0], found.end()
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            frames.append((kind, *unpack_from(">xxBHH", data, place)))
        scans, segments = scans + (kind == 0xDA), segments + 1
        if segments > _MAX_SEGMENTS:
            raise ValueError(f"The JPEG has more than {_MAX_SEGMENTS:,} segments.")
        place += unpack_from(">H", data, place)[0]
    if scans > _MAX_SCANS:
        raise ValueError(f"The JPEG has {scans:,} scans. Allowed: {_MAX_SCANS}.")
    kind, bits, height, width = frames[0]
    return width, height, 1 if bits == 8 and kind in (0xC0, 0xC1) and scans == 1 else 2


def _pnm(data: bytes) -> tuple[int, int, int]:
    number = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,20})"
    header = rb"\AP." + number * (2 if data[1:2] in b"14" else 3) + rb"(?=\D)"  # Bitmaps have no value of white.
    width, height, *white = re.findall(header, data[:_MAX_PNM_HEADER])[0]
    if white not in ([], [b"255"], [b"65535"]):
        raise ValueError(f"The PNM has white at {white[0].decode()}. Allowed: 255 or 65535.")
    return int(width), int(height), 2  # Up to 16 bits.


def _tiff(data: bytes) -> tuple[int, int, int]:
    """The first picture of the file, which is the one that is decoded; or one tile, if that is larger."""
    order = "<" if data[0] == 0x49 else ">"
    (start,) = unpack_from(f"{order}I", data, 4)
    values = {258: 1, 277: 1, 322: 1, 323: 1}  # Bits, samples, width and height of a tile; 256 and 257: of the picture.
    for entry in range(unpack_from(f"{order}H", data, start)[0]):
        at = start + 2 + 12 * entry
        tag, kind, count = unpack_from(f"{order}HHI", data, at)
        if tag in (256, 257, *values):
            form = {1: "B", 3: "H", 4: "I"}[kind]
            inside = count * struct.calcsize(form) <= 4
            at = at + 8 if inside else unpack_from(f"{order}I", data, at + 8)[0]
            values[tag] = max(values.get(tag, 0), *unpack_from(f"{order}{min(count, 8)}{form}", data, at))
    bits = values[258] * values[277]
    if bits > 64:
        raise ValueError(f"The TIFF has {bits} bits a pixel. Allowed: 64.")
    return max(values[256], values[322]), max(values[257], values[323]), 2


# By signature: width, height, and 2 where decoding takes twice the memory of 8-bit colors, else 1. acTL: animation.
_FORMATS: dict[bytes, Callable[[bytes], tuple[int, ...]]] = {
    rb"\xff\xd8\xff": _jpeg,
    rb"\x89PNG\r\n\x1a\n....IHDR": lambda data: (
        *unpack_from(">II", data, 16),
        1 + (data[24] == 16 or b"acTL" in data),
    ),
    rb"RIFF....WEBPVP8 ": lambda data: (*(side & 0x3FFF for side in unpack_from("<HH", data, 26)), 1),
    rb"RIFF....WEBPVP8L": lambda data: (*((unpack_from("<I", data, 21)[0] >> at & 0x3FFF) + 1 for at in (0, 14)), 1),
    rb"RIFF....WEBPVP8X": lambda data: (  # With transparency, metadata or animation.
        *(int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27)),
        1 + bool(data[20] & 2),
    ),
    rb"GIF8[79]a": lambda data: (*unpack_from("<HH", data, 6), 2),
    rb"II\*\0|MM\0\*": _tiff,
    rb"BM.{12}\x0c": lambda data: (*unpack_from("<HH", data, 18), 1),  # OS/2's header.
    rb"BM": lambda data: (*map(abs, unpack_from("<ii", data, 18)), 1),
    rb"P[1-6]\s": _pnm,
}
