"""What may import what, and what `import allconvnet` must not load."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import allconvnet

SOURCE = Path(allconvnet.__file__).parent
TOP = Path(__file__).parents[1]
# A module imports only from layers to its left.
LAYERS = [
    ["_arrays", "_errors", "_files", "_backend", "_cifar_pickle", "_hdf5"],
    ["_specs"],
    ["_weights"],
    ["_fetch"],
    ["_weight_files", "data"],
    ["_picture_headers"],
    ["_decode"],
    ["preprocessing", "whitening", "_batch_norm"],
    ["models"],
    ["features", "_optimizers", "_graph", "pictures"],
    ["explain", "receptive_fields", "recipes"],
    ["_augment", "_run"],
    ["_fit_arguments"],
    ["training"],
]
MODULES = sorted(path.stem for path in SOURCE.glob("*.py") if path.stem != "__init__")


def imports(module):
    """Modules of the package, and all others, that a module imports anywhere in its text."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their direction"
            names = [node.module] if node.module != "allconvnet" else [f"allconvnet.{a.name}" for a in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            (inside if package == "allconvnet" else outside).add(
                rest.split(".")[0] if package == "allconvnet" else package
            )
    return inside, outside


@pytest.mark.parametrize("module", MODULES)
def test_direction(module):
    level = next(number for number, layer in enumerate(LAYERS) if module in layer)
    allowed = {name for layer in LAYERS[:level] for name in layer}
    assert imports(module)[0] <= allowed


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_one_module_knows_backends(module):
    assert module == "_backend" or not {"tensorflow", "jax", "torch"} & imports(module)[1]


def test_only_fetch_knows_pooch():
    assert [module for module in MODULES if {"pooch", "requests"} & imports(module)[1]] == ["_fetch"]


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("code", ["pass", "allconvnet.list_variants()", "allconvnet.list_weights()", "dir(allconvnet)"])
def test_front_door_loads_no_library(code):
    heavy = "{'keras', 'numpy', 'tensorflow', 'jax', 'cv2', 'h5py', 'pooch', 'requests'}"
    assert run(f"import sys, allconvnet; {code}; print(*{heavy} & set(sys.modules))") == []


def test_packaged_weights_need_no_pooch():
    code = "import sys, allconvnet; allconvnet.fetch_weights('all_cnn_c.cifar10'); print('pooch' in sys.modules)"
    assert run(code) == ["False"]


def test_images_and_labels_need_no_keras():
    code = (
        "import sys, allconvnet; allconvnet.load_images; allconvnet.decode_predictions; print('keras' in sys.modules)"
    )
    assert run(code) == ["False"]


def test_public_names():
    citation = (TOP / "CITATION.cff").read_text()
    assert f"\nversion: {allconvnet.__version__}\n" in citation
    assert set(allconvnet.__all__) <= set(dir(allconvnet))
    for name in allconvnet.__all__:
        assert getattr(allconvnet, name) is not None


@pytest.mark.parametrize("module", sorted(set(allconvnet._MODULE_OF.values())))
def test_front_door_offers_what_a_module_does(module):
    home = __import__(f"allconvnet.{module}", fromlist=["x"])
    assert sorted(home.__all__) == sorted(allconvnet._PUBLIC[module])
    assert set(home.__all__) <= set(vars(home))


@pytest.mark.parametrize("name", [name for name in allconvnet.__all__ if name != "__version__"])
def test_docstrings(name):
    value = getattr(allconvnet, name)
    if isinstance(value, tuple | dict):
        return
    assert value.__doc__
    if name != "Weights" and not name.endswith(("Result", "Recipe")):
        assert "Example:" in value.__doc__


# Pages that the build of the site makes, which checks links to them.
BUILT = "gallery/"


@pytest.mark.parametrize("page", [*TOP.glob("*.md"), *TOP.glob("[de]*/**/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    ours = [link.partition("#")[0] for link in links if "://" not in link and BUILT not in link]
    missing = [link for link in ours if not (page.parent / link).exists()]
    assert not missing


def test_unknown_name_suggests_the_closest():
    ended = subprocess.run([sys.executable, "-c", "import allconvnet; allconvnet.AllConvNets"], capture_output=True)
    assert b"module 'allconvnet' has no attribute 'AllConvNets'. Did you mean: 'AllConvNet'?" in ended.stderr


PROGRAM = """
import allconvnet
model = allconvnet.AllConvNet("all_cnn_c", pooling="avg", include_top=False)
allconvnet.AllConvNet("resnet")
allconvnet.AllConvNet(pooling="mean")
allconvnet.fit_cifar10("all_cnn_c", precision="float16")
allconvnet.nothing
allconvnet.AllConvNet(allconvnet.list_variants()[0])
allconvnet.AllConvNet(allconvnet.weights_info("all_cnn_c.cifar10").variant)
reveal_type(allconvnet.weights_info("all_cnn_c.cifar10").top1)
"""


def test_type_checkers_see_names_and_choices(tmp_path):
    """Wrong lines are errors, right ones are none."""
    api = pytest.importorskip("mypy.api")
    (tmp_path / "program.py").write_text(PROGRAM)
    options = ["--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    output, _, _ = api.run([str(tmp_path / "program.py"), *options])
    lines = [line.partition("program.py:")[2] for line in output.splitlines()]
    found = {line.partition(":")[0]: line for line in lines if ": error:" in line}
    assert sorted(found) == ["4", "5", "6", "7"], output
    assert "all_cnn_c" in found["4"]
    assert '"nothing"' in found["7"]
    assert 'Revealed type is "float"' in output.replace("builtins.", "")


@pytest.mark.parametrize("module", MODULES)
def test_keras_public_names_only(module):
    """What begins with an underscore belongs to `self`, or to this package."""
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            assert owner in ("self", "_backend", "_weights", "os.environ"), (
                f"{module}.py:{node.lineno} {owner}.{node.attr}"
            )


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module, tmp_path, monkeypatch):
    """All but those that read CIFAR or train on it."""
    monkeypatch.chdir(tmp_path)
    home = importlib.import_module(f"allconvnet.{module}")
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(home, globs={}):
        if not test.name.endswith(("load_cifar10", "load_cifar100", "load_transfer", "fit_cifar10", "fit_cifar100")):
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
