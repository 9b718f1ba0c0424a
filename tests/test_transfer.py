"""The transfer benchmark: its tasks, its results file, and that docs/howto/transfer.md shows what the file says."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import transfer
from transfer_learning import few_shot_task

import allconvnet
from allconvnet._fit_arguments import FitArguments
from allconvnet._weights import CLASS_NAMES

TOP = Path(__file__).parents[1]


def data(classes, each):
    """Training and test images whose pixels are all their number, with labels."""
    labels = np.tile(np.arange(classes), each)
    images = np.arange(len(labels))[:, None, None, None] * np.ones((1, 2, 2, 3), int)
    return (images, labels), (images[: 2 * classes], labels[: 2 * classes])


def test_superclasses():
    assert np.bincount(transfer.SUPERCLASSES).tolist() == [5] * 20
    names = np.array(allconvnet.CIFAR100_CLASSES)
    fruit = names[transfer.SUPERCLASSES == 4]
    assert fruit.tolist() == ["apple", "mushroom", "orange", "pear", "sweet_pepper"]
    vehicles = names[transfer.SUPERCLASSES == 18]
    assert vehicles.tolist() == ["bicycle", "bus", "motorcycle", "pickup_truck", "train"]


def test_no_weights_have_seen_the_classes_of_their_task(monkeypatch):
    """Neither in the tasks of the benchmark nor in that of the example."""
    names, seen = np.array(allconvnet.CIFAR100_CLASSES), {*CLASS_NAMES["transfer"]}

    def classes(choose):
        splits = list(transfer.tasks(data(100, 5), choose, 5))
        assert len(splits) == 5
        for (images, labels), (test_images, test_labels) in splits:
            assert (np.bincount(labels).tolist(), np.bincount(test_labels).tolist()) == ([5] * 10, [2] * 10)
            pairs = zip(test_labels, test_images[:, 0, 0, 0] % 100, strict=True)
            assert {*pairs} == {*zip(labels, images[:, 0, 0, 0] % 100, strict=True)}
        return {name for (images, _), _ in splits for name in names[images[:, 0, 0, 0] % 100]}

    assert classes(choose=False) == {*allconvnet.CIFAR100_CLASSES} - seen
    assert classes(choose=True) == seen - {*allconvnet.CIFAR10_CLASSES}
    # As docs/howto/transfer.md says: each of the new classes has the superclass of one that was seen.
    assert set(transfer.SUPERCLASSES) == {transfer.SUPERCLASSES[names == name].item() for name in classes(choose=True)}
    assert {plan[0] for plan in transfer.PLAN if plan[2] == "transfer"} == {"10 classes"}
    monkeypatch.setattr(allconvnet, "load_cifar100", lambda: data(100, 5))
    (images, labels), _, chosen = few_shot_task(5, seed=0)
    assert not {*chosen} & seen
    assert [chosen[label] for label in labels] == names[images[:, 0, 0, 0] % 100].tolist()


def test_train(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(transfer, "_fit", lambda call: calls.append(call) or SimpleNamespace(top1=1.0))
    monkeypatch.setattr("sys.argv", ["transfer.py", "--train", str(tmp_path)])
    transfer.main()
    assert calls == [FitArguments("transfer", "all_cnn_c", "cifar100", None, None, 0, tmp_path, "auto", 0)]


def test_runs_have_other_training_pictures():
    """As many runs as there are pictures for, each with `count` of every new class, and all test pictures."""
    splits = list(transfer.runs(data(100, 500), "20 superclasses", 5, 700))
    assert len(splits) == 3
    seen = []
    for (images, labels), (_, test_labels) in splits:
        assert np.bincount(labels).tolist() == [700] * 20
        assert np.array_equal(labels, transfer.SUPERCLASSES[images[:, 0, 0, 0] % 100])
        assert np.bincount(test_labels).tolist() == [10] * 20
        seen += images[:, 0, 0, 0].tolist()
    assert len(set(seen)) == len(seen) == 3 * 20 * 700
    assert len(list(transfer.runs(data(10, 5000), "CIFAR-10", 5, 100))) == 5
    assert len(list(transfer.runs(data(100, 500), "100 classes", 1, 5))) == 1


def test_features_are_computed_once():
    class Model:
        seen = 0

        def predict(self, images, batch_size, verbose):
            self.seen += len(images)
            return images.mean(axis=(1, 2))

    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3))
    extractor = transfer.Remembered(Model())
    assert np.array_equal(extractor.predict(images[:3]), images[:3].mean(axis=(1, 2)))
    assert np.array_equal(extractor.predict(images[::-1]), images[::-1].mean(axis=(1, 2)))
    assert extractor.model.seen == 4


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(allconvnet, "load_cifar10", lambda: data(10, 5000))
    monkeypatch.setattr(allconvnet, "feature_extractor", lambda net, weights: None)
    accuracies = iter([50.0, 54.0, 90.0, 91.0])
    monkeypatch.setattr(transfer, "linear_probe", lambda train, test, extractor: next(accuracies))
    path = tmp_path / "results.csv"
    for counts in ((5,), (5, 5000)):
        transfer.measure([("CIFAR-10", "all_cnn_c", "cifar100", transfer.PROBE, 2, counts)], path)
    assert [(row["images_per_class"], row["runs"], row["top1"], row["deviation"]) for row in transfer.read(path)] == [
        ("5", "2", "52.00", "2.83"),
        ("5000", "1", "90.00", ""),
    ]


def test_docs_show_the_results(tmp_path):
    rows = transfer.read(TOP / "docs/transfer.csv")
    planned = {(*plan[:4], str(count)) for plan in transfer.PLAN for count in plan[5]}
    assert {tuple(row[key] for key in transfer.KEYS) for row in rows} == planned
    assert transfer.table(rows) in (TOP / "docs/howto/transfer.md").read_text()
    transfer.draw(rows, tmp_path / "transfer.png")
    drawn, published = (cv2.imread(str(folder / "transfer.png")) for folder in (tmp_path, TOP / "docs"))
    assert drawn.shape == published.shape
    assert np.abs(drawn.astype(int) - published).mean() < 1
