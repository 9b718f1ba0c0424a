"""The index of weights: every number in it recomputed."""

import csv
import hashlib
import json
import re
import shutil
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import publish
import pytest

import allconvnet
from allconvnet import AllConvNet, evaluate_top1, fetch_weights, list_weights, weights_info
from allconvnet._specs import NORMALIZATION
from allconvnet._weights import WEIGHTS, attributes
from allconvnet.recipes import RECIPES, Recipe

RECORDS = [pytest.param(record, id=name) for name, record in WEIGHTS.items()]
TOP = Path(__file__).parents[1]
DEFAULT = weights_info("all_cnn_c.cifar10").name
PUBLISHED = weights_info("all_cnn_c.cifar100").name


@pytest.mark.parametrize("record", RECORDS)
def test_record(record):
    assert re.fullmatch(r"[a-z0-9]+(_[a-z]+)?_v[1-9][0-9]*", record.tag)
    assert record.classes == len(set(record.class_names))


@pytest.mark.parametrize("record", RECORDS)
def test_record_is_that_of_the_run(record):
    """The run behind the file, with its log, is in docs/runs, and its recipe is today's."""
    folder = TOP / "docs/runs" / record.name
    run = json.loads((folder / "result.json").read_text())
    own = json.loads(json.dumps(asdict(RECIPES[record.recipe])))
    recipe = Recipe(run["recipe"]["phases"])
    images, split = {"transfer": (75_000, "test of CIFAR-10 and 50 classes of CIFAR-100")}.get(
        record.dataset, (50_000, f"CIFAR-{record.dataset.removeprefix('cifar')} test")
    )
    # What the run did not know was as it is by default.
    assert json.loads(json.dumps(asdict(recipe))) | run["recipe"] == own
    same = {"variant": record.variant, "params": record.params, "seed": record.seed, "top1": record.top1}
    same |= {"test_images": record.images, "recipe_name": record.recipe, "dataset": record.dataset}
    same |= {"machine": record.machine, "versions": record.versions, "split": "test", "images": images}
    assert {name: run[name] for name in same} == same
    assert record.split == split
    assert (record.epochs, record.cost) == (recipe.epochs, pytest.approx(recipe.cost(), abs=1e-4))
    log = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [int(row["side"]) for row in log] == recipe.sides
    assert record.seconds == pytest.approx(sum(float(row["seconds"]) for row in log), abs=0.05)


@pytest.mark.parametrize("record", RECORDS)
def test_file(record):
    path = fetch_weights(record.name)
    content = path.read_bytes()
    assert path.name == record.file
    assert len(content) == record.size
    assert hashlib.sha256(content).hexdigest() == record.sha256
    with h5py.File(path) as file:
        assert file.attrs["variant"] == record.variant
        assert tuple(file.attrs["class_names"]) == record.class_names
        for name in ("mean", "std"):
            np.testing.assert_allclose(file.attrs[name], attributes(record.name)[name])
        arrays = []
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        assert {array.dtype for array in arrays} == {np.dtype("float16")}
        assert sum(array.size for array in arrays) == record.params


def check_top1(record, request, images):
    pictures, labels = request.getfixturevalue(record.dataset)[1]
    model = AllConvNet(record.variant, weights=record.tag)
    step = len(pictures) // images
    top1 = evaluate_top1(model, pictures[::step], labels[::step])
    # On all images, another processor may classify two differently; on fewer, four standard errors.
    tolerance = 0.02 if images == record.images else 400 * np.sqrt(record.top1 / 100 * (1 - record.top1 / 100) / images)
    assert top1 == pytest.approx(record.top1, abs=tolerance)


@pytest.mark.parametrize("record", RECORDS)
def test_top1(record, request):
    check_top1(record, request, record.images if record.name == DEFAULT else 500)


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS)
def test_top1_on_all_images(record, request):
    check_top1(record, request, record.images)


def test_every_net_and_data_set_has_one_default():
    groups = {(record.variant, record.dataset) for record in WEIGHTS.values()}
    defaults = [(record.variant, record.dataset) for record in WEIGHTS.values() if record.default]
    assert sorted(defaults) == sorted(groups)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """`docs/publish.py` on a copy of the index, and a run to publish: that of weights in the index, in a folder."""
    index = tmp_path / "src/allconvnet/weights/index.toml"
    index.parent.mkdir(parents=True)
    shutil.copy(TOP / "src/allconvnet/weights/index.toml", index)
    monkeypatch.setattr(publish, "TOP", tmp_path)
    run = tmp_path / "run"
    shutil.copytree(TOP / "docs/runs" / PUBLISHED, run)
    shutil.copy(fetch_weights(PUBLISHED), run / "all_cnn_c.weights.h5")
    return publish.main, run, index


@pytest.mark.parametrize("default", [False, True])
def test_publish(default, published):
    main, run, index = published
    text = index.read_text()
    before = tomllib.loads(text)
    main(run, "cifar100_v9", default)
    assert default or index.read_text().startswith(text)
    after = tomllib.loads(index.read_text())
    new = after.pop("all_cnn_c.cifar100_v9")
    defaults = [table.pop("default", False) for table in (new, after[PUBLISHED], before[PUBLISHED])]
    assert defaults == [default, not default, True]
    assert new == before[PUBLISHED]
    assert after == before
    assert (index.parent / "all_cnn_c.cifar100_v9.weights.h5").read_bytes() == fetch_weights(PUBLISHED).read_bytes()
    with pytest.raises(SystemExit, match=r"cifar100_v9 is not published: a published tag never changes"):
        main(run, "cifar100_v9", False)


def test_publish_weights_for_transfer(published):
    main, run, index = published
    result = json.loads((run / "result.json").read_text()) | {"dataset": "transfer", "images": 75_000}
    (run / "result.json").write_text(json.dumps(result))
    main(run, "transfer_v9", True)
    new = tomllib.loads(index.read_text())["all_cnn_c.transfer_v9"]
    assert new["split"] == "test of CIFAR-10 and 50 classes of CIFAR-100"


@pytest.mark.parametrize(
    ("tag", "changes", "match"),
    [
        ("cifar10_v9", {}, "the tag is not cifar100_<name>_v<number>"),
        ("cifar100", {}, "the tag is not cifar100_<name>_v<number>"),
        ("cifar100_v9", {"split": "held out"}, "measured on the test's"),
        ("cifar100_v9", {"images": 45_000}, "not trained on all images"),
        ("transfer_v9", {"dataset": "transfer"}, "not trained on all images"),
        ("cifar100_v9", {"recipe_name": "custom"}, "its recipe has no name"),
    ],
)
def test_what_is_not_published(tag, changes, match, published):
    main, run, index = published
    result = json.loads((run / "result.json").read_text()) | changes
    (run / "result.json").write_text(json.dumps(result))
    before = index.read_text()
    with pytest.raises(SystemExit, match=match):
        main(run, tag, False)
    assert index.read_text() == before
    assert [path.name for path in index.parent.iterdir()] == ["index.toml"]


def test_names(monkeypatch):
    assert list_weights() == list(WEIGHTS)
    assert list_weights("model_a") == [name for name in WEIGHTS if name.startswith("model_a.")]
    default = WEIGHTS["all_cnn_c.cifar10_robust_v1"]
    assert weights_info("all_cnn_c.cifar10") is default
    newer = replace(default, tag="cifar10_v9", default=False)
    monkeypatch.setitem(WEIGHTS, newer.name, newer)
    assert weights_info("all_cnn_c.cifar10") is default
    monkeypatch.delitem(WEIGHTS, newer.name)
    with pytest.raises(ValueError, match=r"Unknown variant. Received: variant='vgg'"):
        list_weights("vgg")
    with pytest.raises(
        ValueError, match=r"Unknown weights. Received: weights='all_cnn_c.mnist'.* Allowed: 'all_cnn_a."
    ):
        weights_info("all_cnn_c.mnist")


def test_tags():
    mean, std = NORMALIZATION["cifar10"]
    assert attributes("cifar10_v1") == {"mean": mean, "std": std, "class_names": allconvnet.CIFAR10_CLASSES}
    with pytest.raises(ValueError, match=r"Unknown weights. Received: weights='mnist'. Allowed: 'cifar10', 'cifar100'"):
        attributes("mnist")
    with pytest.raises(ValueError, match=r"Unknown weights. Received: weights=None"):
        attributes(None)


def test_every_file_in_the_package_is_in_the_table():
    files = {path.name for path in (Path(allconvnet.__file__).parent / "weights").glob("*.h5")}
    assert files == {record.file for record in WEIGHTS.values()}
