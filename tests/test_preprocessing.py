"""Pictures of every kind in, pixels out; labels back. Test pictures are made here, byte by byte where need be."""

import base64
import io
import struct
import zlib

import cv2
import h5py
import numpy as np
import pytest

from allconvnet import (
    CIFAR10_CLASSES,
    ZCA,
    decode_predictions,
    global_contrast_normalize,
    load_image,
    load_images,
    preprocess_input,
)

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (32, 32, 3), dtype="uint8")
# Four colors, one a quarter: what survives JPEG and shows how a picture was turned.
QUARTERS = np.zeros((48, 64, 3), np.uint8)
QUARTERS[:24, :32], QUARTERS[:24, 32:] = (255, 0, 0), (0, 255, 0)
QUARTERS[24:, :32], QUARTERS[24:, 32:] = (0, 0, 255), (255, 255, 255)


def encode(image, kind=".png", *options):
    """An encoded file of an RGB(A) or gray array."""
    swaps = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    if image.ndim == 3 and image.shape[2] in swaps:
        image = cv2.cvtColor(image, swaps[image.shape[2]])
    return cv2.imencode(kind, image, list(options))[1].tobytes()


# The EXIF block of a picture whose first row is its right edge.
EXIF = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)


def jpeg_with_exif(jpeg):
    segment = b"Exif\0\0" + EXIF
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def png_with_exif(png):
    """Behind the header, as most writers put it."""
    chunk = b"eXIf" + EXIF
    return png[:33] + struct.pack(">I", len(EXIF)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def webp_with_exif(webp):
    """The extended format: a header that announces what there is, the lossless picture, EXIF."""
    height, width = QUARTERS.shape[:2]
    body = webp[12:]
    header = b"VP8X" + struct.pack("<IB3x", 10, 0x08) + (width - 1).to_bytes(3, "little")
    body = header + (height - 1).to_bytes(3, "little") + body + b"EXIF" + struct.pack("<I", len(EXIF)) + EXIF
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    ("insert", "kind", "options"),
    [
        (jpeg_with_exif, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 100)),
        (png_with_exif, ".png", ()),
        (webp_with_exif, ".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    ],
)
def test_exif_orientation(insert, kind, options):
    image = load_image(insert(encode(QUARTERS, kind, *options)), size=None)
    expected = np.rot90(QUARTERS, -1)
    assert image.shape == expected.shape
    # Away from the edges between the colors, where JPEG rings.
    for rows in (slice(2, 18), slice(-18, -2)):
        for columns in (slice(2, 18), slice(-18, -2)):
            assert np.abs(image[rows, columns].astype(int) - expected[rows, columns]).max() < 20


# Transparent at the top right alone.
WINDOW = np.full((48, 64, 1), 255, np.uint8)
WINDOW[:24, 32:] = 0


def test_exif_orientation_of_transparent_files_is_ignored():
    file = png_with_exif(encode(np.concatenate([QUARTERS, WINDOW], axis=2)))
    np.testing.assert_array_equal(load_image(file, size=None), np.where(WINDOW == 0, np.uint8(255), QUARTERS))


@pytest.mark.parametrize("kind", [".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_lossless_files(kind):
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if kind == ".webp" else []
    np.testing.assert_array_equal(load_image(encode(PICTURE, kind, *options)), PICTURE)


def test_fourth_byte_of_a_bmp_is_no_alpha():
    masks = 0xFF0000, 0xFF00, 0xFF
    header = struct.pack("<2sIIIIiiHHIIiiII3I", b"BM", 0, 0, 66, 40, 32, -32, 1, 32, 3, *5 * [0], *masks)
    unused = np.zeros((32, 32, 1), "uint8")
    file = header + np.concatenate([PICTURE[..., ::-1], unused], axis=2).tobytes()
    np.testing.assert_array_equal(load_image(file), PICTURE)


def test_half_transparent_tiff():
    """As the PNG of the same pixels, although OpenCV multiplies the colors of a TIFF by alpha."""
    image = pytest.importorskip("PIL.Image")
    alpha = RANDOM.integers(0, 256, (32, 32, 1), dtype="uint8")
    pixels, file = np.concatenate([PICTURE, alpha], axis=2), io.BytesIO()
    image.fromarray(pixels).save(file, "tiff")
    found, expected = load_image(file.getvalue()).astype(int), load_image(pixels).astype(int)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("white", ["100", "1023"])
def test_pnm_with_another_white(white):
    with pytest.raises(ValueError, match=r"The PNM has white at (100|1023). Allowed: 255 or 65535"):
        load_image(f"P2\n2 1\n{white}\n0 100\n".encode())
    for header in (b"P4\n8 1\n", b"P1\n8 1\n1 1 1 1 1 1 1 1 "):
        assert not load_image(header + b"\xff", size=None).any()


@pytest.mark.parametrize("make", [str, lambda path: path, lambda path: path.read_bytes()])
def test_paths_and_bytes(tmp_path, make):
    path = tmp_path / "löwe ¼.png"
    path.write_bytes(encode(PICTURE))
    np.testing.assert_array_equal(load_image(make(path)), PICTURE)


def test_arrays():
    gray = PICTURE[:, :, 0]
    np.testing.assert_array_equal(load_image(PICTURE), PICTURE)
    assert load_image(PICTURE) is not PICTURE
    for source in (gray, gray[:, :, None], encode(gray)):
        np.testing.assert_array_equal(load_image(source), np.repeat(gray[:, :, None], 3, axis=2))


def test_file_objects(tmp_path):
    (tmp_path / "x.png").write_bytes(encode(PICTURE))
    with (tmp_path / "x.png").open("rb") as file:
        np.testing.assert_array_equal(load_image(file), PICTURE)
    np.testing.assert_array_equal(load_image(io.BytesIO(encode(PICTURE))), PICTURE)
    with pytest.raises(
        TypeError, match=r"Not a picture. Received: str. Allowed: a path, bytes, a file open for reading"
    ):
        load_image(io.StringIO("text"))
    with pytest.raises(TypeError, match="load_images takes a list"):
        load_images(io.BytesIO(encode(PICTURE)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBa", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_pil_images(mode):
    """As the file that PIL writes of it, or as the pixels that it was made of."""
    image = pytest.importorskip("PIL.Image")
    if mode == "I;16":
        picture = image.fromarray(PICTURE[:, :, 0].astype("uint16") * 257)
        expected = np.repeat(PICTURE[:, :, :1], 3, axis=2)
    elif mode == "RGBa":
        window = image.fromarray(np.concatenate([QUARTERS[:32, :32], WINDOW[:32, 32:]], axis=2))
        picture, expected = window.convert("RGBa"), load_image(window)
    else:
        picture = image.fromarray(PICTURE).convert(mode)
        file = io.BytesIO()
        picture.save(file, "TIFF" if mode == "CMYK" else "PNG")
        expected = load_image(file.getvalue())
    np.testing.assert_array_equal(load_image(picture), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pil_images_without_a_range(mode):
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match=rf"mode '{mode}' have no fixed range: convert to \"L\" or \"I;16\" first"):
        load_image(image.fromarray(PICTURE[:, :, 0]).convert(mode))


def test_subclass_of_a_pil_image_is_one():
    image = pytest.importorskip("PIL.Image")

    class Own(image.Image):
        pass

    picture = image.fromarray(PICTURE)
    picture.__class__ = Own
    np.testing.assert_array_equal(load_image(picture), PICTURE)
    with pytest.raises(TypeError, match="load_images takes a list"):
        load_images(picture)


def test_pil_images_stand_upright_and_on_white():
    image = pytest.importorskip("PIL.Image")
    jpeg = jpeg_with_exif(encode(QUARTERS, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100))
    np.testing.assert_allclose(
        load_image(image.open(io.BytesIO(jpeg)), size=None).astype(int), load_image(jpeg, size=None).astype(int), atol=3
    )
    window = image.fromarray(np.concatenate([QUARTERS, WINDOW], axis=2))
    np.testing.assert_array_equal(load_image(window, size=None), np.where(WINDOW == 0, np.uint8(255), QUARTERS))


def test_unreadable_pictures_are_left_out_and_reported(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"bad")
    sources, reported = [PICTURE, tmp_path / "bad.png", None, encode(PICTURE)], []
    images = load_images(sources, on_error=lambda source, error: reported.append((source, str(error))))
    np.testing.assert_array_equal(images, [PICTURE, PICTURE])
    assert [source for source, _ in reported] == sources[1:3]
    assert "OpenCV cannot read" in reported[0][1]
    with pytest.raises(ValueError, match="OpenCV cannot read"):
        load_images(sources)
    with pytest.raises(ValueError, match="Unknown fit"):
        load_images(sources, fit="pad", on_error=lambda *_: None)
    with pytest.raises(TypeError, match=r"on_error must be a function. Received: 'skip'"):
        load_images(sources, on_error="skip")
    with pytest.raises(ValueError, match="There is no picture"):
        load_images(sources[1:3], on_error=lambda *_: None)


def test_sixteen_bits():
    deep = PICTURE.astype("uint16") * 257
    for source in (deep, encode(deep)):
        np.testing.assert_array_equal(load_image(source), PICTURE)
    np.testing.assert_array_equal(load_image(encode(deep[:, :, 0])), np.repeat(PICTURE[:, :, :1], 3, axis=2))
    # 1.49 and 1.51: rounded, not cut.
    between = np.array([[383, 388]], "uint16")
    for source in (between, encode(between)):
        assert load_image(source, size=None)[0, :, 0].tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_transparency_lies_on_white(dtype):
    alpha = np.zeros((32, 32, 1), np.uint8)
    alpha[:, 8:], alpha[:, 16:] = 51, 255
    picture = np.concatenate([PICTURE, alpha], axis=2)
    expected = np.rint(PICTURE * (alpha / 255) + 255 * (1 - alpha / 255)).astype("uint8")
    picture = picture.astype("uint16") * 257 if dtype == "uint16" else picture
    for source in (picture, encode(picture)):
        np.testing.assert_array_equal(load_image(source), expected)


def cmyk_tiff(color, side=8):
    """An uncompressed CMYK TIFF of one color, four bytes a pixel."""
    pixels = bytes(color) * side * side
    entries = [
        (256, 3, 1, side),
        (257, 3, 1, side),
        (258, 3, 4, 8 + len(pixels)),
        (259, 3, 1, 1),
        (262, 3, 1, 5),
        (273, 4, 1, 8),
        (277, 3, 1, 4),
        (278, 3, 1, side),
        (279, 4, 1, len(pixels)),
    ]
    bits = struct.pack("<4H", 8, 8, 8, 8)
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(bits)) + pixels + bits + table


@pytest.mark.parametrize(
    ("color", "rgb"),
    [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_cmyk(color, rgb):
    image = load_image(cmyk_tiff(color), size=None)
    assert image.shape == (8, 8, 3)
    np.testing.assert_allclose(image.reshape(-1, 3).astype(int), np.tile(rgb, (64, 1)), atol=2)


# Red, 8x8, as CMYK with the Adobe marker: the inks are stored inverted.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6"
    "pseZqKuk/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABQAAQAAAAAAAAAAAAAAAAAAAAb/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oADgRDAE0A"
    "WQBLAAA/AEwyMkz/2Q=="
)


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg(adobe):
    start = CMYK_JPEG.index(b"\xff\xee")
    length = int.from_bytes(CMYK_JPEG[start + 2 : start + 4], "big")
    jpeg = CMYK_JPEG if adobe else CMYK_JPEG[:start] + CMYK_JPEG[start + 2 + length :]
    image = load_image(jpeg, size=None)
    assert image.shape == (8, 8, 3)
    np.testing.assert_allclose(image.reshape(-1, 3).astype(int), np.tile((255, 0, 0), (64, 1)), atol=4)


def png(color, row, *blocks):
    """A PNG of one row of two pixels, 8 bits, of the color type."""
    header = (b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, color, 0, 0, 0))
    chunks = [header, *blocks, (b"IDAT", zlib.compress(bytes([0, *row]))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


PALETTE = (b"PLTE", bytes([255, 0, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    ("file", "pixels"),
    [
        (png(3, [0, 1], PALETTE), [[255, 0, 0], [0, 0, 255]]),
        (png(3, [0, 1], PALETTE, (b"tRNS", bytes([255, 0]))), [[255, 0, 0], [255, 255, 255]]),
        (png(4, [100, 255, 100, 51]), [[100, 100, 100], [224, 224, 224]]),
    ],
    ids=["palette", "palette with transparency", "gray with transparency"],
)
def test_png_color_types(file, pixels):
    assert load_image(file, size=None).tolist() == [pixels]


def test_shrinking_averages_areas():
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    assert np.abs(load_image(checkers.astype("uint8")).astype(int) - 127.5).max() <= 1


def test_a_thin_picture_is_averaged_along_its_long_side():
    stripes = np.zeros((8, 1024), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 255
    assert np.abs(load_image(stripes).astype(int) - 127.5).max() <= 1
    assert np.abs(load_image(stripes.T).astype(int) - 127.5).max() <= 1


def test_enlarging_is_cubic():
    small = PICTURE[:8, :8]
    np.testing.assert_array_equal(load_image(small), cv2.resize(small, (32, 32), interpolation=cv2.INTER_CUBIC))


def test_crop_keeps_the_centre():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = PICTURE
    np.testing.assert_array_equal(load_image(wide, fit="crop"), PICTURE)
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    np.testing.assert_array_equal(load_image(tall, fit="crop"), PICTURE.transpose(1, 0, 2))
    assert load_image(wide, fit="resize").shape == (32, 32, 3)
    assert not np.array_equal(load_image(wide, fit="resize"), PICTURE)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"OpenCV cannot read this as a picture. Received: 1 bytes") as caught:
        load_images([PICTURE, path])
    assert caught.value.__notes__ == [f"Picture: {path}"]


def test_size():
    assert load_image(QUARTERS, size=(20, 30)).shape == (20, 30, 3)
    assert load_image(QUARTERS, size=(100, 10), fit="crop").shape == (100, 10, 3)
    assert load_images([QUARTERS, QUARTERS], size=None).shape == (2, 48, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("nowhere.png",), FileNotFoundError, r"There is no picture 'nowhere.png'"),
        ((b"not a picture",), ValueError, r"OpenCV cannot read this as a picture. Received: 13 bytes"),
        ((b"",), ValueError, r"Received: 0 bytes"),
        ((3,), TypeError, r"Not a picture. Received: int"),
        ((PICTURE / 255,), ValueError, r"look like 0..1.*multiply them by 255. Received: float64"),
        ((PICTURE.astype("float32"),), ValueError, r"Not a picture. Received: float32.*uint8 or uint16"),
        ((PICTURE[:, :, :2],), ValueError, r"1, 3 or 4 channels"),
        ((np.zeros((0, 4, 3), np.uint8),), ValueError, r"Not a picture. Received: uint8 \(0, 4, 3\)"),
        ((PICTURE[None],), ValueError, r"uint8 \(1, 32, 32, 3\)"),
        ((PICTURE, {"fit": "pad"}), ValueError, r"Unknown fit. Received: fit='pad'"),
        ((PICTURE, {"size": (0, 4)}), ValueError, r"Invalid size. Received: size=\(0, 4\)"),
        ((PICTURE, {"size": 32}), ValueError, r"Invalid size. Received: size=32"),
        ((PICTURE, {"size": (32.0, 32)}), ValueError, r"Invalid size. Received: size=\(32.0, 32\)"),
    ],
)
def test_what_is_no_picture(arguments, error, match):
    source, options = (*arguments, {})[:2]
    with pytest.raises(error, match=match):
        load_image(source, **options)


def test_batches():
    np.testing.assert_array_equal(load_images([PICTURE, encode(PICTURE)]), [PICTURE, PICTURE])
    with pytest.raises(TypeError, match=r"takes a list.*load_image takes one. Received: 'cat.jpg'"):
        load_images("cat.jpg")
    with pytest.raises(TypeError, match=r"takes a list.*Received: uint8 \(32, 32, 3\)"):
        load_images(PICTURE)
    assert load_images(PICTURE[None]).shape == (1, 32, 32, 3)
    with pytest.raises(ValueError, match="There is no picture"):
        load_images([])
    with pytest.raises(ValueError, match=r"several sizes.*pass size"):
        load_images([PICTURE, QUARTERS], size=None)


def test_preprocess_input():
    images = PICTURE[None].astype("float64")
    before = images.copy()
    result = preprocess_input(images)
    np.testing.assert_array_equal(images, before)
    assert result.dtype == "float32"
    np.testing.assert_allclose(result[..., 2], (before[..., 2] - 113.865) / 66.705, atol=1e-5)
    gray = preprocess_input(PICTURE[None, :, :, :1])
    np.testing.assert_allclose(gray, preprocess_input(np.repeat(PICTURE[None, :, :, :1], 3, axis=-1)))


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (PICTURE / 255, r"look like 0..1"),
        (PICTURE / 127.5 - 1, r"not raw pixels.* Received: float64 from -1"),
        (PICTURE * 2.0, r"not raw pixels"),
        (PICTURE.astype("uint16") * 257, r"not raw pixels.* Received: uint16 from \d+ to \d+"),
        (PICTURE.astype("int32") - 300, r"not raw pixels.* Received: int32 from -300"),
        (np.full((8, 8, 3), np.nan), r"not raw pixels.* Received: float64 from nan"),
        (PICTURE[:, :, :2], r"Allowed: \[..., height, width, 3 or 1\]"),
    ],
)
def test_bad_pixels(images, match):
    with pytest.raises(ValueError, match=match):
        preprocess_input(images)
    if images.shape[-1] == 3:
        with pytest.raises(ValueError, match=match):
            global_contrast_normalize(images[None])


def test_images_of_a_graph():
    """As in `Dataset.map`."""

    class Symbolic:
        def __array__(self, *_, **__):
            raise NotImplementedError("Cannot convert a symbolic tf.Tensor")

    with pytest.raises(ValueError, match=r"Invalid images. Received: Symbolic of dtype object"):
        preprocess_input(Symbolic())


def test_no_images_at_all():
    assert preprocess_input(np.zeros((0, 32, 32, 3), "float32")).shape == (0, 32, 32, 3)


def test_dark_pictures_are_pixels():
    for dark in (np.zeros((1, 4, 4, 3), "float32"), np.ones((1, 4, 4, 3), "uint8")):
        expected = (dark[0, 0, 0] - np.array([125.307, 122.950, 113.865])) / [62.993, 62.089, 66.705]
        np.testing.assert_allclose(preprocess_input(dark)[0, 0, 0], expected, rtol=1e-5)


def test_quantised_scores():
    scores = np.array([[0, 200, 100]], "uint8")
    assert decode_predictions(scores, class_names=["a", "b", "c"]) == [[("b", 200.0), ("c", 100.0), ("a", 0.0)]]


def test_decode_predictions():
    scores = np.eye(10)[[3, 8]] * 0.9 + 0.01
    labels = decode_predictions(scores, top=2)
    assert [row[0] for row in labels] == [("cat", pytest.approx(0.91)), ("ship", pytest.approx(0.91))]
    assert labels[0][1] == ("airplane", pytest.approx(0.01))
    assert [name for name, _ in decode_predictions(scores[:1], top=10)[0]] == ["cat", *(set_aside("cat"))]
    assert decode_predictions(scores[:, 3:5], top=1, class_names=["a", "b"])[0][0][0] == "a"


def test_a_file_says_classes_and_normalization(tmp_path):
    path = tmp_path / "pets.weights.h5"
    with pytest.raises(FileNotFoundError, match=r"There is no weights file '.*pets"):
        decode_predictions(np.ones((1, 2)), weights=path)
    with h5py.File(path, "w") as file:
        file.attrs["variant"] = "all_cnn_c"
    with pytest.raises(ValueError, match=r"has no valid attribute 'class_names'"):
        decode_predictions(np.ones((1, 2)), weights=path)
    with h5py.File(path, "a") as file:
        file.attrs["class_names"] = ["cat", "dog"]
        file.attrs["mean"] = [100.0, 120.0, 140.0]
    images = np.full((1, 2, 2, 3), 200, "uint8")
    with pytest.raises(ValueError, match=r"has no valid attribute 'std'"):
        preprocess_input(images, weights=path)
    with h5py.File(path, "a") as file:
        file.attrs["std"] = [50.0, 40.0, 30.0]
    for weights in (path, str(path)):
        assert decode_predictions(np.array([[0.2, 0.8]]), top=1, weights=weights) == [[("dog", 0.8)]]
        assert decode_predictions(np.array([[0.2, 0.8]]), weights=weights) == [[("dog", 0.8), ("cat", 0.2)]]
        assert preprocess_input(images, weights=weights)[0, 0, 0].tolist() == [2, 2, 2]
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"is not an HDF5 file"):
        preprocess_input(images, weights=path)


def set_aside(name):
    return [other for other in CIFAR10_CLASSES if other != name]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"predictions": np.ones((2, 100))}, r"10 class names do not fit .* shape \(2, 100\). Pass class_names"),
        ({"predictions": np.ones(10)}, r"must be \[N, classes\]: reshape them. Received: shape \(10,\)"),
        ({"predictions": np.ones((2, 10)), "class_names": ["a"]}, r"1 class names do not fit"),
        ({"predictions": np.ones((2, 10)), "top": 11}, r"Received: top=11. Allowed: a whole number, 1 to 10"),
        ({"predictions": np.ones((2, 10)), "top": 0}, r"Received: top=0"),
        ({"predictions": np.full((2, 10), np.nan)}, r"infinite or not a number"),
        ({"predictions": np.ones((2, 10)), "weights": "mnist"}, r"Unknown weights"),
        ({"predictions": np.ones((2, 10)), "weights": "nonsense.cifar10_v5"}, r"Unknown weights"),
    ],
)
def test_bad_predictions(arguments, match):
    with pytest.raises(ValueError, match=match):
        decode_predictions(**arguments)


def test_global_contrast_normalization():
    images = np.stack([PICTURE, np.full_like(PICTURE, 7)])
    result = global_contrast_normalize(images)
    assert result.mean() == pytest.approx(0, abs=1e-4)
    assert np.linalg.norm(result[0]) == pytest.approx(55, rel=1e-5)
    assert (result[1] == 0).all()
    with pytest.raises(ValueError, match=r"Not a batch of images. Received: shape \(\d+, \d+, 3\). Allowed: \[N"):
        global_contrast_normalize(PICTURE)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 0, 4, 3), (0, 0, 0, 0)])
def test_global_contrast_normalization_of_nothing(shape):
    assert global_contrast_normalize(np.zeros(shape, "uint8")).shape == shape


def test_zca_whitens(tmp_path):
    images = RANDOM.normal(size=(2000, 3, 3, 2)) @ RANDOM.normal(size=(2, 2)) * 10 + 3
    zca = ZCA.fit(images, bias=0.1)
    flat = zca.apply(images).reshape(2000, -1)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-4)
    values = np.linalg.eigvalsh(np.cov((images - images.mean(axis=0)).reshape(2000, -1).T, bias=True))
    expected = values / (values + 0.1)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(flat.T, bias=True)), np.sort(expected), atol=1e-4)
    np.testing.assert_allclose(zca.matrix, zca.matrix.T, atol=1e-10)
    zca.save(tmp_path / "zca.npz")
    np.testing.assert_array_equal(ZCA.load(tmp_path / "zca.npz").apply(images), zca.apply(images))
    with pytest.raises(ValueError, match=r"Fitted on images of 18 values. Received: 12 values"):
        zca.apply(images[:, :2])


def test_paths_with_a_tilde(tmp_path, monkeypatch):
    """`~` is the home folder, unless there is a file of this name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("~copy.png", "cat.png"):
        cv2.imwrite(name, np.full((4, 4, 3), 7, "uint8"))
    for name in ("~copy.png", "~/cat.png"):
        assert load_image(name)[0, 0, 0] == 7
    with pytest.raises(ValueError, match=r"Invalid picture. Received: picture='~no one/cat.png'"):
        load_image("~no one/cat.png")
