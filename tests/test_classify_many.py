"""`examples/classify_many.py` with Ray: on this machine, and on a cluster of two nodes of which one is killed."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

import allconvnet

Cluster = pytest.importorskip("ray.cluster_utils").Cluster
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

EXAMPLES = Path(__file__).parents[1] / "examples"
# "local": not a cluster that runs on this machine already.
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
PICTURES = 20_000


def command(*arguments):
    return [sys.executable, str(EXAMPLES / "classify_many.py"), *arguments]


def run(folder, *arguments):
    ended = subprocess.run(
        command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False
    )
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


def test_folder(tmp_path):
    """A picture that cannot be read, a second start after a block is lost, and a changed folder."""
    shutil.copytree(EXAMPLES / "pictures", tmp_path / "photos/more")
    (tmp_path / "photos/bad.png").write_bytes(b"bad")
    arguments = ["photos", "--block", "4", "--top", "1", "--actors", "1"]
    status, lines, errors = run(tmp_path, *arguments)
    assert status == 1
    assert lines[0] == "3 blocks, 0 of them finished"
    assert "1 of them could not be read, such as:\n  bad.png: OpenCV cannot read this as a picture." in errors
    table = pq.read_table(tmp_path / "labels").to_pydict()
    assert list(table) == ["file", "label", "score", "error"]
    found = dict(zip(table["file"], table["label"], strict=True))
    assert found["bad.png"] is None
    assert found["more/cat.jpg"] == "cat"
    assert len(found) == len(table["file"]) == 11
    assert [error is None for error in table["error"]] == [name != "bad.png" for name in table["file"]]
    images = allconvnet.load_images([EXAMPLES / "pictures/cat.jpg"], fit="crop")
    score = allconvnet.AllConvNet("all_cnn_c").predict(images, verbose=0).max()
    assert table["score"][table["file"].index("more/cat.jpg")] == pytest.approx(score, abs=1e-4)

    blocks = sorted((tmp_path / "labels").glob("*.parquet"))
    before = [path.stat().st_mtime_ns for path in blocks]
    blocks[1].unlink()
    (tmp_path / "labels/.block-000001.parquet.1.tmp").write_bytes(b"half")
    status, lines, _ = run(tmp_path, *arguments)
    assert status == 1
    assert lines[0] == "3 blocks, 2 of them finished"
    after = [path.stat().st_mtime_ns for path in blocks]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert pq.read_table(tmp_path / "labels").to_pydict() == table
    assert not list((tmp_path / "labels").glob("*.tmp"))

    (tmp_path / "photos/new.png").write_bytes(b"bad")
    status, _, errors = run(tmp_path, *arguments[:-2], "--top", "2")
    assert status == 1
    assert errors.strip().endswith("labels has labels of a run with other top, files. Choose another --output.")


def test_refused_input(tmp_path):
    shutil.copytree(EXAMPLES / "pictures", tmp_path / "photos")
    assert run(tmp_path, "photos", "--output", "photos/labels")[2].endswith("must not be in the folder of the input\n")
    assert run(tmp_path, "nothing")[2].endswith("nothing must be a folder or a Parquet file\n")
    assert run(tmp_path, "photos", "--weights", "nosuch")[2].startswith("Unknown weights for 'all_cnn_c'.")
    pq.write_table(pa.table({"image": [b"bad"]}), tmp_path / "photos/photos.parquet")
    assert "has the columns ['image'], not ['file', 'image']" in run(tmp_path, "photos")[2]
    assert "must hold either pictures" in run(tmp_path, "photos", "--name-column", "image")[2]


def test_another_file_has_another_checksum(tmp_path):
    """Also if it is the only one, and as large."""
    import classify_many

    checksums = set()
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"image": [b"bad"], "file": ["1.png"]}), tmp_path / name)
        columns = {"image_column": "image", "name_column": "file"}
        arguments = argparse.Namespace(input=tmp_path / name, output=tmp_path / "labels", block=500, **columns)
        checksums.add(classify_many.find_blocks(arguments)[1])
    assert len(checksums) == 2


def test_one_of_two_nodes_is_killed(tmp_path):
    """Parquet, 20,000 pictures: both nodes share the work, and every picture is labeled once."""
    images = allconvnet.load_images(sorted((EXAMPLES / "pictures").glob("*.[jp][pn]g")))
    labels = allconvnet.decode_predictions(allconvnet.AllConvNet("strided_cnn_a").predict(images, verbose=0), top=1)
    encoded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]
    column = [{"bytes": encoded[i % 10], "path": f"{i:05}"} for i in range(PICTURES)]
    pq.write_table(
        pa.table({"photo": [{"image": each} for each in column]}), tmp_path / "photos.parquet", row_group_size=7_250
    )
    columns = ["--image-column", "photo.image.bytes", "--name-column", "photo.image.path"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    with (tmp_path / "log").open("w") as log:
        environment = ENVIRONMENT | {"RAY_ADDRESS": cluster.address}
        arguments = command("photos.parquet", "--variant", "strided_cnn_a", *columns)
        process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 900
            while process.poll() is None and len(list(tmp_path.glob("labels/*.parquet"))) < 20:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            cluster.remove_node(second, allow_graceful=False)
            status = process.wait(timeout=900)
        finally:
            process.kill()
            process.wait()
            cluster.shutdown()
    text = (tmp_path / "log").read_text()
    assert status == 0, text[-5000:]
    shares = re.search(r"Blocks of each machine: (\d+), (\d+)\n", text).groups()
    assert sum(map(int, shares)) == 41
    table = pq.read_table(tmp_path / "labels").to_pydict()
    assert table["file"] == [f"{i:05}" for i in range(PICTURES)]
    assert table["label"] == [labels[i % 10][0][0] for i in range(PICTURES)]
