"""Recipes check themselves, can be resized, and say what they cost."""

from dataclasses import replace

import pytest

from allconvnet import RECIPES, Recipe
from allconvnet.recipes import _SCHEDULES

TOY = Recipe(phases=((2, 24), (1, 32)))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name):
    recipe = RECIPES[name]
    assert recipe.cost() <= recipe.epochs == len(recipe.sides)
    for epochs in (1, 2, recipe.epochs, 50):
        resized = recipe.resized(epochs)
        assert resized.epochs == epochs
        assert all(number for number, _ in resized.phases)
        assert [side for _, side in resized.phases] == [side for _, side in recipe.phases][-epochs:]
    assert recipe.resized(recipe.epochs) == recipe
    with pytest.raises(ValueError, match=r"Invalid epochs. Received: epochs=0"):
        recipe.resized(0)


def test_cost_counts_pixels():
    assert Recipe(phases=((4, 16), (2, 32))).cost() == pytest.approx(3)


def test_rates_drop_after_the_epochs_of_the_recipe():
    schedule = _SCHEDULES["steps"](RECIPES["paper"], 1.0, 10)
    steps = (0, 1999, 2000, 2499, 2500, 2999, 3000)
    assert [float(schedule(step)) for step in steps] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_rates_rise_and_fall():
    schedule = _SCHEDULES["linear"](replace(TOY, warmup=0.5), 1.0, 10)
    assert [float(schedule(step)) for step in (0, 15, 30)] == pytest.approx([0, 1, 0])
    schedule = _SCHEDULES["inverse_time"](replace(TOY, decay=0.1), 1.0, 10)
    assert [float(schedule(step)) for step in (0, 10)] == pytest.approx([1, 0.5])


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("schedule", "cosine", r"Unknown schedule. Received: schedule='cosine'. Allowed: 'inverse_time', 'linear'"),
        ("flip", "up", r"Unknown flip. Received: flip='up'. Allowed: 'alternating', 'none'"),
        ("fill", "zero", r"Unknown fill. Received: fill='zero'. Allowed: 'edge' or 'reflect'"),
        ("erase", 1.5, r"Invalid erase. Received: erase=1.5. Allowed: 0 to 1"),
        ("batch_size", 0, r"Invalid batch_size. Received: batch_size=0. Allowed: a whole number, 1 or more"),
        ("batch_size", 8.5, r"Invalid batch_size. Received: batch_size=8.5"),
        ("sgd_rate", -0.1, r"Invalid sgd_rate. Received: sgd_rate=-0.1. Allowed: 0 or more"),
        ("sgd_rate", "fast", r"Invalid sgd_rate. Received: sgd_rate='fast'"),
        ("phases", (), r"Invalid phases. Received: phases=\(\)"),
        ("phases", ((0, 32),), r"Invalid phases.*whole numbers from 1 to 10000"),
        ("phases", ((1.5, 32),), r"Invalid phases"),
        ("phases", (32,), r"Invalid phases"),
        ("phases", 5, r"Invalid phases"),
        ("batch_norm", False, r"Muon needs batch_norm=True and nesterov=True. Use muon_rate=0"),
        (
            "start",
            "cifar10_v5",
            r"start must be a tag.*needs whiten=False and batch_norm=False",
        ),
        ("start", None, r"start must be a tag or a path, as a string and not a URL.*Received: NoneType, "),
        ("corrupt", 2, r"Invalid corrupt. Received: corrupt=2. Allowed: 0 to 1"),
        ("nesterov", False, r"Muon needs batch_norm=True and nesterov=True"),
        ("temperature", 0, r"Invalid temperature. Received: temperature=0. Allowed: 0.01 to 100"),
    ],
)
def test_impossible_recipes(field, value, match):
    with pytest.raises(ValueError, match=match):
        replace(TOY, **{field: value})


def test_whitened_images_cannot_be_corrupted():
    with pytest.raises(ValueError, match=r"Whitened images cannot be corrupted. Received: whiten=True, corrupt=0.1"):
        replace(TOY, whiten=True, corrupt=0.1)


@pytest.mark.parametrize("drops", [(), (0, 5), (5, 2), 3])
def test_impossible_drops(drops):
    with pytest.raises(ValueError, match=r'schedule="steps" needs drops of 1 or more, in order. Received: drops='):
        replace(TOY, schedule="steps", drops=drops)
