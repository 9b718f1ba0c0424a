"""
Classify many pictures
======================

Classifies any number of pictures with Ray Data, on one machine or several, and writes their labels to Parquet files. It
needs Ray (``pip install "ray[data]"``). Run it as a script, not as a notebook:

.. code-block:: sh

    python classify_many.py photos/ --output labels          # a folder with its subfolders
    python classify_many.py photos.parquet --output labels   # encoded pictures in the column "image", names in "file"

Start it again after it was stopped: finished blocks of pictures are skipped.
"""

import argparse
import itertools
import json
import os
import sys
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import allconvnet

try:
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet as pq
    import ray
except ImportError as error:
    sys.exit(f'{error}; this example needs Ray Data: pip install "ray[data]"')

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def find_blocks(arguments: argparse.Namespace) -> tuple[list[dict], int]:
    """The input as blocks in a fixed order, and a checksum of the names and sizes of its files."""
    folder, size, columns = arguments.input, arguments.block, {arguments.name_column, arguments.image_column}
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [str(folder)]
    pictures = [path for path in files if Path(path).suffix.lower() in SUFFIXES]
    tables = [path for path in files if path.endswith(".parquet")]
    blocks = [{"paths": pictures[i : i + size], "group": -1, "start": 0} for i in range(0, len(pictures), size)]
    for path in tables:
        table = pq.read_metadata(path)
        there = {table.schema.column(i).path for i in range(table.num_columns)}
        if not columns <= there:
            sys.exit(f"{path} has the columns {sorted(there)}, not {sorted(columns)} (--name-column, --image-column).")
        for group in range(table.num_row_groups):
            starts = range(0, table.row_group(group).num_rows, size)
            blocks += [{"paths": [path], "group": group, "start": start} for start in starts]
    if not blocks or (pictures and tables):
        sys.exit(f"{folder} must hold either pictures ({', '.join(sorted(SUFFIXES))}) or Parquet files with pictures.")
    top = folder if folder.is_dir() else folder.parent
    listing = "".join(f"{os.path.relpath(path, top)}\0{os.path.getsize(path)}\0" for path in pictures or tables)
    output = str(arguments.output / "block-{:06}.parquet")
    return [block | {"output": output.format(i)} for i, block in enumerate(blocks)], zlib.crc32(os.fsencode(listing))


class Classifier:
    """Loads the model and writes the labels of one block after another, in a process that Ray starts."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.model = allconvnet.AllConvNet(arguments.variant, weights=arguments.weights)
        ends = ["", *(f"_{rank}" for rank in range(2, arguments.top + 1))]
        pairs = [(f"{name}{end}", kind) for end in ends for name, kind in (("label", "string"), ("score", "float32"))]
        self.schema = pa.schema([("file", "string"), *pairs, ("error", "string")])

    def read(self, block: dict) -> Iterator[tuple[str, str | bytes]]:
        """The name of each picture, and its path or encoded bytes."""
        if block["group"] < 0:
            yield from ((os.path.relpath(path, self.arguments.input), path) for path in block["paths"])
            return
        names = [self.arguments.name_column, self.arguments.image_column]
        start, stop = block["start"], block["start"] + self.arguments.block
        # A few rows at a time, without pre_buffer: row groups and pictures may be large.
        with pq.ParquetFile(block["paths"][0], pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(16, row_groups=[block["group"]], columns=names):
                table = pa.Table.from_batches([batch])[max(start, 0) : max(stop, 0)]
                while any(map(pa.types.is_struct, table.schema.types)):
                    table = table.flatten()
                yield from zip(*(table[name].to_pylist() for name in names), strict=True)
                start, stop = start - len(batch), stop - len(batch)
                if stop <= 0:
                    break

    def __call__(self, block: dict) -> dict:
        """Writes the file, which has a temporary name until it is complete."""
        rows, images = [], []
        for name, source in self.read(block):
            rows.append({"file": str(name).encode(errors="replace").decode()})
            try:
                size = self.model.input_shape[1:3]
                images.append(allconvnet.load_image(source, size=size, fit=self.arguments.fit))
            except Exception as error:  # Decoders raise more than OSError and ValueError.
                rows[-1]["error"] = str(error)
        if images:
            slices = (np.stack(images[i : i + 100]) for i in range(0, len(images), 100))
            scores = np.concatenate([self.model.predict_on_batch(part) for part in slices])
            labels = allconvnet.decode_predictions(scores, top=self.arguments.top, weights=self.arguments.weights)
            for row, pairs in zip((row for row in rows if "error" not in row), labels, strict=True):
                row.update(zip(self.schema.names[1:-1], itertools.chain(*pairs), strict=True))
        path = Path(block["output"])
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        pq.write_table(pa.Table.from_pylist(rows, self.schema), temporary)
        temporary.replace(path)
        return {"machine": ray.get_runtime_context().get_node_id()}


def parse_arguments() -> argparse.Namespace:
    """The arguments of the command line, with absolute paths: processes of Ray have working folders of their own."""
    parser = argparse.ArgumentParser(description="Classify any number of pictures with an all convolutional net.")
    parser.add_argument("input", type=Path, help="folder of pictures, or a Parquet file, or a folder of such files")
    parser.add_argument("--output", type=Path, default=Path("labels"), help="folder of labels (default: %(default)s)")
    parser.add_argument("--image-column", default="image", help="column of encoded pictures (default: %(default)s)")
    parser.add_argument("--name-column", default="file", help="column of their names (default: %(default)s)")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="published tag, or a weights file (default: %(default)s)")
    parser.add_argument("--top", type=int, default=3, help="number of labels per picture (default: %(default)s)")
    parser.add_argument("--fit", default="crop", choices=["crop", "resize"], help="cut out the center, or squeeze")
    parser.add_argument("--block", type=int, default=500, help="pictures in a block (default: %(default)s)")
    parser.add_argument("--actors", type=int, default=2, help="number of processes (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.input, arguments.output = arguments.input.resolve(), arguments.output.resolve()
    if not arguments.input.is_dir() and not (arguments.input.is_file() and arguments.input.suffix == ".parquet"):
        parser.error(f"{arguments.input} must be a folder or a Parquet file")
    if arguments.input in (arguments.output, *arguments.output.parents):
        parser.error("--output must not be in the folder of the input")
    if min(arguments.block, arguments.actors) < 1:
        parser.error("--block and --actors must be at least 1")
    if Path(arguments.weights).is_file():
        arguments.weights = str(Path(arguments.weights).resolve())
    return arguments


def check_output(arguments: argparse.Namespace, files: int) -> None:
    """Refuses a folder of labels of another input or of other settings."""
    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    try:
        model = allconvnet.AllConvNet(arguments.variant, weights=arguments.weights)
        scores = np.zeros((1, *model.output_shape[1:]))
        allconvnet.decode_predictions(scores, top=arguments.top, weights=arguments.weights)
    except (OSError, ValueError) as error:  # No such net or weights, or more labels than classes.
        sys.exit(str(error))
    weights = zlib.crc32(b"".join(array.tobytes() for array in model.get_weights()))
    names = ("image_column", "name_column", "variant", "top", "fit", "block")
    settings = {name: str(getattr(arguments, name)) for name in names} | {"weights": weights, "files": files}
    path = arguments.output / "_settings.json"  # Readers of Parquet folders skip names that begin like this.
    before = json.loads(path.read_text()) if path.exists() else settings
    if changed := [name for name in settings if settings[name] != before.get(name)]:
        sys.exit(f"{arguments.output} has labels of a run with other {', '.join(changed)}. Choose another --output.")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))
    for temporary in arguments.output.glob(".*.tmp"):  # Of a run that was killed.
        temporary.unlink()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    blocks, files = find_blocks(arguments)
    check_output(arguments, files)
    left = [block for block in blocks if not os.path.exists(block["output"])]
    print(f"{len(blocks)} blocks, {len(blocks) - len(left)} of them finished")
    if left:
        ray.init(log_to_driver=False)
        data = ray.data.from_items(left, override_num_blocks=len(left)).map(
            Classifier,
            fn_constructor_args=(arguments,),
            compute=ray.data.ActorPoolStrategy(size=arguments.actors),
            num_cpus=0.5,  # The processes of a machine that failed find room on another one.
        )
        shares = Counter(row["machine"] for row in data.iter_rows())
        print(f"Blocks of each machine: {', '.join(map(str, shares.values()))}")
    table, bad = pyarrow.dataset.dataset(arguments.output, format="parquet"), pyarrow.dataset.field("error").is_valid()
    print(f"{table.count_rows():,} pictures: {arguments.output}")
    if failed := table.count_rows(filter=bad):
        lines = [f"  {row['file']}: {row['error']}" for row in table.head(10, filter=bad).to_pylist()]
        sys.exit("\n".join([f"{failed:,} of them could not be read, such as:", *lines]))


if __name__ == "__main__":
    main()
