"""Folders of runs that are damaged, shared or cannot be written."""

import errno
import io
import shutil
import threading
import zipfile
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from allconvnet import ZCA, Recipe, fit_cifar10, training

TOY = Recipe(phases=((2, 16),), batch_size=8)
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, toy_cifar10, tiny):
    """Arguments of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = {"variant": tiny, "recipe": TOY, "data": toy_cifar10, "precision": "float32"}
    fit_cifar10(**arguments, output_dir=folder)
    return arguments | {"output_dir": folder}


@pytest.fixture
def run(finished, tmp_path):
    """The same with a folder of its own."""
    return finished | {"output_dir": shutil.copytree(finished["output_dir"], tmp_path / "run")}


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def half(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def with_arrays(change):
    def changed(content):
        with np.load(io.BytesIO(content)) as saved:
            arrays = dict(saved)
        file = io.BytesIO()
        np.savez(file, **arrays | change(arrays))
        return file.getvalue()

    return changed


def claiming_a_terabyte(content):
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (1 << 37,)}
    file, member = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("state.npy", member.getvalue())
    return file.getvalue()


def compressed(content):
    file = io.BytesIO()
    np.savez_compressed(file, state=np.zeros(100_000_000, "uint8"))
    return file.getvalue()


DAMAGE = {
    "checkpoint.npz": {
        "empty": lambda _: b"",
        "half": half,
        "a flipped bit": flipped,
        "text": lambda _: b"no archive" * 100,
        "one array": lambda _: npy(),
        "objects": with_arrays(lambda _: {"variable_0": np.array([None])}),
        "no state": lambda _: npz(variable_0=np.zeros(1)),
        "state of numbers": with_arrays(lambda _: {"state": np.zeros(3)}),
        "state that is a list": with_arrays(lambda _: {"state": "[1, 2]"}),
        "a variable of another shape": with_arrays(lambda saved: {"variable_0": saved["variable_0"][..., :-1]}),
        "a variable too many": with_arrays(lambda _: {"variable_999": np.zeros(1)}),
        "large": lambda content: content + bytes(3 << 20),
        "a terabyte, it says": claiming_a_terabyte,
        "compressed": compressed,
    },
    "tiny.weights.h5": {"empty": lambda _: b"", "half": half, "text": lambda _: b"no weights" * 100},
}


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name, kinds in DAMAGE.items() for damage in kinds])
def test_damaged_file_is_named(run, name, damage):
    path = run["output_dir"] / name
    path.write_bytes(DAMAGE[name][damage](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"run/{name}' (is damaged|is not an HDF5 file|does not hold the variables)"):
        fit_cifar10(**run)


def test_numbers_of_numpy_in_a_recipe_are_those_of_python(run):
    phases = tuple((np.int64(epochs), np.int64(side)) for epochs, side in run["recipe"].phases)
    numpy = replace(run["recipe"], phases=phases, batch_size=np.int64(run["recipe"].batch_size), nesterov=np.True_)
    new = run | {"output_dir": run["output_dir"].with_name("new")}
    assert fit_cifar10(**new | {"recipe": numpy}).history == fit_cifar10(**new).history


def test_folder_of_a_file_system_without_locks(run):
    no_locks = OSError(errno.ENOLCK, "No locks available")
    with mock.patch("allconvnet._run.fcntl.flock", side_effect=no_locks) as flock:
        fit_cifar10(**run)
    assert flock.called


def test_damaged_log_and_weights_are_written_again(run, finished):
    """All that they hold is in the checkpoint."""
    (run["output_dir"] / "log.csv").write_bytes(b"\xff")
    (run["output_dir"] / "tiny.weights.h5").unlink()
    again, first = fit_cifar10(**run), fit_cifar10(**finished)
    assert again.history == first.history
    assert again.top1 == first.top1
    for array, before in zip(again.model.get_weights(), first.model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, before)


def test_finished_run_without_a_result_is_measured(run):
    path = run["output_dir"] / "result.json"
    before = path.read_text()
    path.unlink()
    fit_cifar10(**run)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "damage",
    [
        half,
        flipped,
        lambda _: npz(mean=np.zeros(3)),
        lambda _: npz(mean=np.zeros(3), matrix=np.eye(4)),
        lambda _: npz(mean=np.zeros(3), matrix=np.full((3, 3), np.nan)),
    ],
)
def test_damaged_whitening_is_named(toy_cifar10, tmp_path, damage):
    images = toy_cifar10[0][0][:, :4, :4].astype("float32")
    path = tmp_path / "zca.npz"
    ZCA.fit(images).save(path)
    np.testing.assert_array_equal(ZCA.load(path).matrix, ZCA.fit(images).matrix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"zca.npz' is damaged"):
        ZCA.load(path)


def test_two_runs_at_once(finished, tmp_path, monkeypatch):
    """Also in threads of one process: the first has the folder for itself, the second is told."""
    arguments = finished | {"output_dir": tmp_path / "run"}
    train, inside, go_on, results = training._train, threading.Event(), threading.Event(), []

    def slowly(*parts):
        inside.set()
        assert go_on.wait(60)
        return train(*parts)

    monkeypatch.setattr(training, "_train", slowly)
    first = threading.Thread(target=lambda: results.append(fit_cifar10(**arguments)))
    first.start()
    assert inside.wait(60)
    for seed in (0, 1):
        with pytest.raises(ValueError, match=r"Another run is training in '.*run'; pass another output_dir, or wait"):
            fit_cifar10(**arguments | {"seed": seed})
    go_on.set()
    first.join()
    assert results[0].top1 == fit_cifar10(**arguments).top1
    with pytest.raises(ValueError, match=r"holds another run"):
        fit_cifar10(**arguments | {"seed": 1})


def test_folder_that_cannot_be_written_is_found_out_before_training(finished, tmp_path, monkeypatch):
    (tmp_path / "run/.lock").mkdir(parents=True)  # It cannot be opened for writing, whoever runs this.
    monkeypatch.setattr(training, "_train", mock.Mock(side_effect=AssertionError))
    with pytest.raises(OSError, match=r"run/.lock"):
        fit_cifar10(**finished | {"output_dir": tmp_path / "run"})
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file"):
        fit_cifar10(**finished | {"output_dir": tmp_path / "file"})


def test_what_a_killed_run_leaves_is_removed(run):
    folder = run["output_dir"]
    leftovers = [".checkpoint.npz.123.tmp", ".log.csv.k3_x9.tmp", ".tiny.weights.h5.7.tmp", ".zca.npz.9.tmp"]
    others = [".mine.tmp", ".my.weights.h5.7.tmp", "checkpoint.npz.tmp"]
    for name in [*leftovers, *others]:
        (folder / name).touch()
    fit_cifar10(**run)
    names = {path.name for path in folder.iterdir()}
    assert not names & set(leftovers)
    assert names >= set(others)
