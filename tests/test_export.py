"""Exported files answer as the model does, in the runtimes that they are for."""

import keras
import numpy as np
import predict
import pytest

from allconvnet import AllConvNet

BACKEND = keras.backend.backend()
# By format and backend: what Keras needs to write it. PyTorch's needs nothing else than PyTorch for its own format.
ONNX = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnx"}
OPENVINO = {"tensorflow": "openvino", "torch": "openvino"}
TORCH = {"torch": "torch"}
TENSORFLOW = {"tensorflow": "tensorflow"}
# The exporters' own warnings, of deprecated names in NumPy, PyTorch and protobuf.
pytestmark = pytest.mark.filterwarnings("ignore")


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda images: loaded.serve(images).numpy()


def pytorch(path):
    import torch

    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


CASES = {
    "onnx": ("net.onnx", ONNX, {"cv2": predict.opencv, "onnxruntime": predict.onnx_runtime}),
    "openvino": ("net.xml", OPENVINO, {"openvino": predict.openvino}),
    "litert": ("net.tflite", TENSORFLOW, {"ai_edge_litert": predict.litert}),
    "tf_saved_model": ("net", TENSORFLOW, {"tensorflow": saved_model}),
    "torch": ("net.pt2", TORCH, {"torch": pytorch}),
}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("kind", CASES)
def test_file_answers_as_the_model(kind, dtype, tmp_path, cifar10):
    name, needs, runtimes = CASES[kind]
    if BACKEND not in needs:
        pytest.skip(f"Keras does not write it from {BACKEND}")
    for package in (needs[BACKEND], *runtimes):
        pytest.importorskip(package)
    images = cifar10[1][0][:256]
    model = AllConvNet("all_cnn_c")
    options = {"input_signature": [keras.InputSpec(shape=(None, 32, 32, 3), dtype=dtype)], "verbose": False}
    if kind == "torch":
        import torch

        options["dynamic_shapes"] = {0: torch.export.Dim("batch")}
    model.export(str(tmp_path / name), format=kind, **options)
    expected = model.predict(images, verbose=0)
    assert expected.max() > 0.9
    for runtime in runtimes.values():
        run = runtime(str(tmp_path / name))
        for count in (256, 1, 7):
            scores = run(images[:count].astype(dtype))
            np.testing.assert_allclose(scores, expected[:count], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(None, None, 3), (64, 48, 3)])
def test_onnx_file_of_a_dense_net_answers_as_the_model(shape, tmp_path, cifar10):
    if BACKEND != "tensorflow":
        pytest.skip("the files of the other backends are tested above")
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    images = cifar10[1][0][:12].reshape(2, 2, 3, 32, 32, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 64, 96, 3)[:, :, :48]
    model = AllConvNet("all_cnn_c", input_shape=shape, dense_prediction=True)
    signature = [keras.InputSpec(shape=(None, *shape), dtype="uint8")]
    model.export(str(tmp_path / "net.onnx"), format="onnx", input_signature=signature, verbose=False)
    expected = model.predict(images, verbose=0)
    for runtime in (predict.opencv, predict.onnx_runtime):
        scores = runtime(tmp_path / "net.onnx")(images).reshape(expected.shape)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
