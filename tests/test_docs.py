"""The sources of the site: reference, tables, figures of the model pages, gallery."""

import json
import re
from pathlib import Path

import calibrate
import cards
import gallery
import numpy as np
import pytest
import tables

import allconvnet

DOCS = Path(__file__).parents[1] / "docs"


def test_reference_has_each_public_name_once():
    text = "".join(page.read_text() for page in DOCS.glob("reference/*.md"))
    names = re.findall(r"^\.\. (?:auto|py:)\w+:: allconvnet\.(\w+)$", text, re.MULTILINE)
    assert sorted([*names, "__version__"]) == sorted(allconvnet.__all__)


def test_results_are_those_of_the_published_weights():
    assert sorted(tables.RESULTS) == sorted(allconvnet.list_weights())
    for name, row in tables.RESULTS.items():
        record = allconvnet.weights_info(name)
        # Another processor rounds otherwise: two images may be classified differently.
        assert float(row["top1"]) == pytest.approx(record.top1, abs=0.02)
        assert float(row["top5"]) > record.top1
        classes = [found for found in tables.rows_of("per_class.csv") if found["name"] == name]
        assert tuple(found["class"] for found in classes) == record.class_names
        counts = [1000] * 10 + [100] * 50 if record.dataset == "transfer" else None
        mean = np.average([float(found["top1"]) for found in classes], weights=counts)
        assert mean == pytest.approx(record.top1, abs=0.05)
        assert (DOCS / f"confusion/{name}.png").exists()


def test_results_are_measured_again(cifar10, tmp_path, monkeypatch):
    """All but the times, for the fastest net."""
    monkeypatch.setattr(cards, "DOCS", tmp_path)
    name = "strided_cnn_a.cifar10_v1"
    row, classes = cards.measure("strided_cnn_a.cifar10")
    kept = tables.RESULTS[name]
    assert list(row) == list(kept)
    for key, value in row.items():
        if key != "name" and not key.startswith("ms_"):
            # Another processor rounds differently: some images of 2,000 may change sides.
            assert float(value) == pytest.approx(float(kept[key]), abs=0.2), key
    assert len(classes) == 10
    assert (tmp_path / f"confusion/{name}.png").exists()


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_default_weights_are_robust(data, request):
    """Against those they were trained from: noise, on 200 images."""
    images, labels = (part[:200] for part in request.getfixturevalue(data)[1])
    noisy = np.stack([cards.CORRUPTIONS["noise_12"](image) for image in images])
    before, default = (
        allconvnet.evaluate_top1(allconvnet.AllConvNet("all_cnn_c", weights=tag), noisy, labels)
        for tag in (allconvnet.RECIPES[allconvnet.weights_info(f"all_cnn_c.{data}").recipe].start, data)
    )
    assert default > before + 20


def test_calibration_error():
    error = cards.calibration_error
    sure = np.array([[0.9, 0.1]] * 10)
    assert error(sure, np.array([True] * 9 + [False])) == pytest.approx(0)
    assert error(sure, np.array([True] * 5 + [False] * 5)) == pytest.approx(40)
    # Too sure in one bin and too unsure in another: they do not cancel out.
    both = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    assert error(both, np.array([True] * 6 + [False] * 4 + [True] * 9 + [False])) == pytest.approx(30)


def test_temperature(tmp_path, monkeypatch, capsys):
    """Labels drawn with the probabilities of logits that are then multiplied by 0.6; a change turns them around."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 10))
    cumulated = calibrate.softmax(logits, axis=1).cumsum(axis=1)
    labels = (cumulated < random.random((20_000, 1))).sum(axis=1)
    assert calibrate.fitted(0.6 * logits, labels) == pytest.approx(0.6, abs=0.02)

    # The weights of the run were divided by 0.5 already; the first images were trained on.
    labels[:5000] = random.permutation(labels[:5000])
    result = {"split": "held out", "variant": "model_a", "dataset": "cifar10", "test_images": 15_000}
    result["recipe"] = {"temperature": 0.5, "whiten": False}
    (tmp_path / "result.json").write_text(json.dumps(result))
    monkeypatch.setattr(calibrate, "load", lambda dataset: ((logits, labels), None))
    monkeypatch.setattr(calibrate, "predict", lambda model, images: 0.6 / 0.5 * images)
    monkeypatch.setattr(calibrate, "CORRUPTIONS", {"turned": np.negative})
    monkeypatch.setattr(allconvnet, "AllConvNet", lambda variant, weights, classifier_activation: None)
    calibrate.main(tmp_path)
    *lines, unchanged, turned = capsys.readouterr().out.splitlines()
    assert unchanged == f"unchanged: top-1 {100 * (logits.argmax(axis=1) == labels)[5000:].mean():.2f} %"
    assert turned == f"turned: top-1 {100 * (logits.argmin(axis=1) == labels)[5000:].mean():.2f} %"
    errors = {line[:16]: float(line.split()[4]) for line in lines}
    assert list(errors)[:2] == ["temperature 1.00", "temperature 0.50"]
    assert errors["temperature 1.00"] > 5
    assert errors["temperature 0.60"] < 1
    assert all(line.endswith("points on 15,000 held-out images") for line in lines)
    for change in ({"split": "test"}, {"recipe": {"whiten": True}}):
        (tmp_path / "result.json").write_text(json.dumps(result | change))
        with pytest.raises(SystemExit, match="must be a run that held images out, of a recipe without whitening"):
            calibrate.main(tmp_path)


def test_pages_are_those_of_the_package():
    pages = tables.pages()
    assert {path.stem for path in pages if path.parent.name == "models"} == {*allconvnet.list_variants(), "index"}
    assert not [path.name for path, text in pages.items() if not path.exists() or path.read_text() != text]
    page = pages[DOCS / "models/all_cnn_c.md"]
    record = allconvnet.weights_info("all_cnn_c.cifar10")
    for text in (record.sha256, f"{record.top1:.2f}", "90.92", "| `conv7` | 3x3 1 valid | 6x6x192 | relu |"):
        assert text in page
    assert "There are no published weights" in pages[DOCS / "models/all_cnn_large.md"]


def test_tables_are_filled_in():
    page = "a\n<!-- table fast -->\n{}<!-- end -->\nb\n<!-- table recipes fast best -->\n{}<!-- end -->\n"
    filled = page.format(tables.fast() + "\n", tables.recipes("fast", "best") + "\n")
    assert tables.filled(page.format("old\n", "")) == tables.filled(page.format("", "\n")) == filled
    with pytest.raises(ValueError, match=r"A table has no end"):
        tables.filled("<!-- table fast -->\ntext\n<!-- table fast -->\n<!-- end -->\n")


def test_gallery_shows_stored_output(monkeypatch):
    monkeypatch.setattr(gallery, "STORED", {"train_cifar10"})
    source = ["text"]
    gallery.add_stored_output(None, "gallery/classify_image", source)
    gallery.add_stored_output(None, "train_cifar10", source)
    assert source == ["text"]
    gallery.add_stored_output(None, "gallery/train_cifar10", source)
    assert "literalinclude:: /outputs/train_cifar10.txt" in source[0]


def test_examples_that_do_not_run_have_stored_output():
    examples = {path.stem for path in (DOCS.parent / "examples").glob("*.py")}
    assert set(gallery.NEEDS) <= examples
    assert set(gallery.PICTURES) <= set(gallery.NEEDS)
    for pictures in gallery.PICTURES.values():
        assert all((DOCS / picture).exists() for picture in pictures)
