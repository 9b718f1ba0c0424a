"""The published weights as one table; what fetches them is in `_fetch.py`."""

from __future__ import annotations

from dataclasses import dataclass

from allconvnet._errors import listed, message
from allconvnet._specs import NORMALIZATION, get_spec

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_FINE_LABELS.split())

# The data sets behind the tags; NORMALIZATION has a row for each.
_CLASS_NAMES = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}

JPEG_NOTE = (
    "In the copy measured on, 18 of the 10,000 test images are JPEG decodes: on the original top-1 may differ by 0.18 "
    "points at most"
)


@dataclass(frozen=True)
class Weights:
    """One published file of weights. A published tag never changes.

    Attributes:
        variant: the net, a name of `list_variants()`.
        tag: data set and version, such as "cifar10_v1"; "cifar10" means the newest.
        sha256: of the file, hexadecimal.
        size: of the file, bytes.
        params: parameters of the net.
        top1: accuracy in percent, single crop, no test-time augmentation.
        split: the images on which `top1` was measured.
        images: their number.
        recipe: name of the training recipe.
        epochs: passes over the training images.
        cost: the same in epochs of full-size images, by their pixels, with what the weights that it starts from and
            learns from have cost.
        seconds: what they took in all.
        machine: on which, with its instructions for bfloat16; the last one, if it went on on another.
        seed: of the training run.
        versions: what trained it.
        license: of the file.
        notes: what else to know about `top1`.
    """

    variant: str
    tag: str
    sha256: str
    size: int
    params: int
    top1: float
    split: str
    images: int
    recipe: str
    epochs: int
    cost: float
    seconds: float
    machine: str
    seed: int
    versions: str
    license: str = "MIT"
    notes: str = JPEG_NOTE

    @property
    def name(self) -> str:
        """As `fetch_weights` takes it: variant, dot, tag."""
        return f"{self.variant}.{self.tag}"

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.weights.h5"

    @property
    def dataset(self) -> str:
        """The data set behind the tag."""
        return self.tag.rpartition("_v")[0]

    @property
    def version(self) -> int:
        """The number at the end of the tag."""
        return int(self.tag.rpartition("_v")[2])

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted from each RGB channel, on the scale 0..255."""
        return NORMALIZATION[self.dataset][0]

    @property
    def std(self) -> tuple[float, ...]:
        """By which each RGB channel is divided, on the scale 0..255."""
        return NORMALIZATION[self.dataset][1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return _CLASS_NAMES[self.dataset]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images it was trained for."""
        side = get_spec(self.variant).side
        return side, side, 3


_TABLE = [
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v1",
        sha256="c4ff1223f4842005890def54b0e5161301ebf3eee875358a01c6b6f363f6959b",
        size=2771856,
        params=1_369_738,
        top1=91.99,
        split="CIFAR-10 test",
        images=10_000,
        recipe="best",
        epochs=9,
        cost=6.375,
        seconds=5612.4,
        machine="x86_64, 2 cores",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, float32",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v2",
        sha256="bc8627101a6de282977a66b28a5ff88e07951c4039ff049b03843d2fb7be49fd",
        size=2771856,
        params=1_369_738,
        top1=93.22,
        split="CIFAR-10 test",
        images=10_000,
        recipe="best",
        epochs=18,
        cost=14.9375,
        seconds=1446.7,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar100_v1",
        sha256="77703f429a1ae53fee72a2d79c8ba1c77079335f28ca4f02714af3abf54e065f",
        size=2807856,
        params=1387108,
        top1=74.08,
        split="CIFAR-100 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1441.6,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
        notes="",
    ),
    Weights(
        variant="strided_cnn_a",
        tag="cifar10_v1",
        sha256="322ece079c46a0e68f321980ae3d5ce1cadcac8dde523edff72ad72d19da24fe",
        size=1700432,
        params=839242,
        top1=89.24,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=436.8,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="strided_cnn_c",
        tag="cifar10_v1",
        sha256="29ab191e03ef24438a68e305abd9b51672a75a93207004d2f9de0d28db0507cb",
        size=1936008,
        params=954730,
        top1=92.53,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=863.9,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="model_a",
        tag="cifar10_v1",
        sha256="42b4cbd549bb70e2b4459f1bd563965e08f6e3c4ae17cb02a86a9a34a78ba4d3",
        size=1700432,
        params=839242,
        top1=90.89,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=711.0,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="strided_cnn_b",
        tag="cifar10_v1",
        sha256="6f44e15fdf6c0c4465e6f61de8b9d7213b2fb0f8e4346e4c3554c7e16635eda6",
        size=1797768,
        params=885610,
        top1=90.76,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=843.0,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="model_b",
        tag="cifar10_v1",
        sha256="6d5640ffc3eed2c37d68422993a00c83bf7c1af9f9a3d144c0f6ef96fb4ad09e",
        size=1797768,
        params=885610,
        top1=92.08,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1028.1,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_a",
        tag="cifar10_v1",
        sha256="e4b1965c1a576024a36837a87b5c35e4efb77b1d8eb4e803b220525df0ee92eb",
        size=2535048,
        params=1254250,
        top1=92.37,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=992.0,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_b",
        tag="cifar10_v1",
        sha256="091cd7fdd4d3ca7a1eb26e9018c4f479769a929e1f9b25cf25492fcfb6d83bab",
        size=2633616,
        params=1300618,
        top1=92.64,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1393.7,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v3",
        sha256="fc5dd6499b903e4fbb824f58f32f0a2d8ee9e8b8fc8b1c19d51b26528e1c7439",
        size=2771856,
        params=1369738,
        top1=93.61,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1488.6,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="model_c",
        tag="cifar10_v1",
        sha256="9c75c1cc4be8b4b70e21a2dbb82efd16cdbe6e6ab8452744b5f5536cf46ead66",
        size=1936008,
        params=954730,
        top1=93.43,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1404.5,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="convpool_cnn_a",
        tag="cifar10_v1",
        sha256="86b0a332b38f4504884080483d0df123bdfd85c202e64edcbd781f2ade0eac14",
        size=2535048,
        params=1254250,
        top1=92.97,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1328.0,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="convpool_cnn_b",
        tag="cifar10_v1",
        sha256="c6c61b87ade4417caddc61ac1fde79717c9906f547621ee745c835d2142d5748",
        size=2633616,
        params=1300618,
        top1=93.59,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1708.4,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="convpool_cnn_c",
        tag="cifar10_v1",
        sha256="e720b4eddac0d63c96caddb1692f117545c8739729bd8e173166a29eb234338e",
        size=2771856,
        params=1369738,
        top1=94.04,
        split="CIFAR-10 test",
        images=10000,
        recipe="best",
        epochs=22,
        cost=14.5,
        seconds=1695.6,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v4",
        sha256="f4253c49684bbaa39ad0d4505c5badd29c1b5d2b3707fbc2faf3f11e9d04f8a4",
        size=2771856,
        params=1369738,
        top1=94.79,
        split="CIFAR-10 test",
        images=10000,
        recipe="long",
        epochs=80,
        cost=57.3125,
        seconds=5285.1,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v5",
        sha256="1535f1084f938320ce3f683f5896cfd68df4537479b9c0603f41849eb9dee43c",
        size=2771856,
        params=1369738,
        top1=94.64,
        split="CIFAR-10 test",
        images=10000,
        recipe="long",
        epochs=134,
        cost=111.3125,
        seconds=9889.5,
        machine="x86_64, 2 cores, amx_bf16, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
    Weights(
        variant="all_cnn_c",
        tag="cifar10_v6",
        sha256="4c7518e21ed56e5c80bfc070d12ec3df82b6aeb36f925a662678f9985c8fd308",
        size=2771856,
        params=1369738,
        top1=94.5,
        split="CIFAR-10 test",
        images=10000,
        recipe="distilled",
        epochs=26,
        cost=236.5984,
        seconds=6200.1,
        machine="x86_64, 2 cores, avx512_bf16",
        seed=0,
        versions="keras 3.15.1, tensorflow 2.21.0, mixed_bfloat16",
    ),
]
WEIGHTS: dict[str, Weights] = {record.name: record for record in _TABLE}


def list_weights(variant: str | None = None) -> list[str]:
    """Names of all published weights, as `fetch_weights` and `weights_info` take them.

    Args:
        variant: only those of this net.

    Returns:
        Names of the form `variant.tag`; the tag alone goes to `AllConvNet(variant, weights=tag)`.

    Raises:
        ValueError: `variant` is not a net.

    Example:
        >>> import allconvnet
        >>> allconvnet.list_weights("all_cnn_c")[0]
        'all_cnn_c.cifar10_v1'
    """
    if variant is not None:
        get_spec(variant)
    return [name for name, record in WEIGHTS.items() if variant in (None, record.variant)]


def weights_info(name: str) -> Weights:
    """The record of published weights: size, hash, accuracy, recipe, licence.

    Args:
        name: `variant.tag`, where the tag may leave out its version: "all_cnn_c.cifar10".

    Returns:
        A frozen record; without a version, the newest's.

    Raises:
        ValueError: there are no such weights.

    Example:
        >>> import allconvnet
        >>> allconvnet.weights_info("all_cnn_c.cifar10").params
        1369738
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    versions = [record for record in WEIGHTS.values() if name == f"{record.variant}.{record.dataset}"]
    if not versions:
        raise ValueError(
            message(
                "There are no published weights of that name",
                received=repr(name),
                allowed=listed(WEIGHTS),
                next_step="Use weights=None for fresh weights, or a path or URL of your own.",
            )
        )
    return max(versions, key=lambda record: record.version)


def _dataset(tag: str) -> str:
    dataset = str(tag).rpartition("_v")[0] or tag
    tags = sorted({record.tag for record in WEIGHTS.values()})
    if tag not in tags and tag not in _CLASS_NAMES:
        raise ValueError(
            message("Unknown weights", received=f"weights={tag!r}", allowed=listed([*_CLASS_NAMES, *tags]))
        )
    return dataset


def normalization(tag: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation behind a tag; ValueError lists the tags."""
    return NORMALIZATION[_dataset(tag)]


def class_names(tag: str) -> tuple[str, ...]:
    """Class names behind a tag; ValueError lists the tags."""
    return _CLASS_NAMES[_dataset(tag)]
