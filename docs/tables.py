"""Tables of README.md and of the docs, and a page for each net, from the package's own data.

python docs/tables.py

In a page, the lines `<!-- table NAME ARGUMENTS -->` and `<!-- end -->` enclose what the function of that name returns.
"""

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev

from allconvnet._specs import SPECS, Conv, Spec
from allconvnet._weights import WEIGHTS, Weights, list_weights, weights_info
from allconvnet.recipes import RECIPES, Recipe

TOP = Path(__file__).parents[1]
RUNS = TOP / "docs/runs"
# Top-1 error in the paper, in percent: of the CIFAR nets without augmentation (Table 3), for the bases A, B and C.
TABLE_3 = {
    "model": (12.47, 10.20, 9.74),
    "strided_cnn": (13.46, 10.98, 10.19),
    "convpool_cnn": (10.21, 9.33, 9.31),
    "all_cnn": (10.30, 9.10, 9.08),
}
FAMILIES = tuple(TABLE_3)
PAPER_ERRORS = {"all_cnn_large": 4.41, "all_cnn_b_imagenet": 41.2} | {
    f"{family}_{base}": error for family, row in TABLE_3.items() for base, error in zip("abc", row, strict=True)
}
NET_NOTES = {
    "model": "The paper's base net {0}, with max pooling.",
    "strided_cnn": "The paper's base net {0} without max pooling; the convolution before each has stride 2.",
    "convpool_cnn": "The paper's base net {0} with one more 3x3 convolution before each max pooling.",
    "all_cnn": "The paper's base net {0} with a 3x3 convolution of stride 2 in place of each max pooling.",
    "all_cnn_large": "2x2 convolutions on 126x126 images, LeakyReLU of slope 1/3 (our assumption).",
    "all_cnn_b_imagenet": "ALL-CNN-B scaled up for ImageNet.",
    "all_conv_keras": "All-CNN-Keras: same padding throughout, no ReLU after the strided convolutions.",
}
RECOMMENDED = {
    "default": "all_cnn_c.cifar10",
    "under a million parameters": "model_c.cifar10",
    "the 100 classes of CIFAR-100": "all_cnn_c.cifar100",
    "new classes": "all_cnn_c.transfer",
}
RECIPE_NOTES = {
    "fast": "6 epochs: batch normalization, Muon, small images first, label smoothing",
    "best": "22 epochs, with larger images and wider shifts; the default of `fit_cifar10`",
    "cifar100": '"best" with higher rates and another temperature; the default of `fit_cifar100`',
    "long": "120 epochs, with lower rates, still wider shifts and random erasing; made `cifar10_v5`",
    "long_cifar100": '"long" with another temperature; made `cifar100_v2`',
    "robust": "fine-tunes `cifar10_v5` on images with blur, noise and JPEG, 8 epochs; made `cifar10_robust_v1`",
    "robust_cifar100": "fine-tunes `cifar100_v2` in the same way, with another temperature; made `cifar100_robust_v1`",
    "paper": "dropout and whitened images, no batch normalization, 350 epochs",
    "paper_augmented": '"paper" with flips and shifts',
    "ancestor": "that of All-CNN-Keras for its net all_conv_keras, 350 epochs",
}
MEASURED = {
    "jpeg_75": "top-1, JPEG quality 75, %",
    "jpeg_50": "top-1, JPEG quality 50, %",
    "noise_12": "top-1, noise (deviation 12), %",
    "blur_0.8": "top-1, blur (deviation 0.8), %",
    "calibration_error": "expected calibration error, points",
    "calibration_error_changed": "the same on corrupted images, points",
}
TABLE = re.compile(r"(^<!-- table ([^\n]+?) -->\n)(?:(?!^<!-- ).)*(^<!-- end -->$)", re.DOTALL | re.MULTILINE)


def rows_of(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file in docs/."""
    return list(csv.DictReader((TOP / "docs" / file).read_text().splitlines()))


RESULTS = {row["name"]: row for row in rows_of("results.csv")}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size(spec: Spec) -> tuple[int, int]:
    """Parameters, and multiplications for an image of the size that the net was designed for."""
    rows = [step for step in spec.rows_with_sizes(spec.side, spec.classes) if isinstance(step[0], Conv)]
    params = sum((row.kernel**2 * channels + 1) * row.filters for row, _, channels in rows)
    return params, sum((side * row.kernel) ** 2 * channels * row.filters for row, side, channels in rows)


def overview() -> str:
    """The nets, and the accuracy of their default weights."""
    rows = []
    for name, spec in SPECS.items():
        records = {record.dataset: record for record in WEIGHTS.values() if record.variant == name and record.default}
        accuracy = [f"{records[data].top1:.2f}" if data in records else "" for data in ("cifar10", "cifar100")]
        time = RESULTS[records["cifar10"].name]["ms_batch_64"] if "cifar10" in records else ""
        params, multiplications = size(spec)
        cost = [f"{params / 1e6:.2f}", f"{multiplications / 1e6:,.0f}"]
        rows.append([f"[{name}]({name}.md)", *cost, *accuracy, time])
    head = ["net", "parameters, million", "multiply-adds, million", "CIFAR-10, %", "CIFAR-100, %", "ms per image"]
    return table(head, rows)


def layers(variant: str) -> str:
    """The layers of a net."""
    spec, number, rows = SPECS[variant], 0, []
    for row, side, _ in spec.rows_with_sizes(spec.side, spec.classes):
        window = [f"{row.kernel}x{row.kernel}", str(row.stride), row.padding]
        if isinstance(row, Conv):
            number, filters = number + 1, row.filters
            name, after = f"conv{number}", row.activation or ""
        else:
            name, after = "max pooling", ""
        rows.append([f"`{name}`", " ".join(window), f"{side}x{side}x{filters}", after])
    rows[-1][0], rows[-1][-1] = "`class_conv`", "global average, softmax"
    return table(["layer", "window, stride, padding", "output", "then"], rows)


def weights(variant: str) -> str:
    """The published weights of a net."""
    rows = []
    for record in records_of(variant):
        start = RECIPES[record.recipe].start
        after = f" after `{start}`" if start else ""
        made = f'"{record.recipe}"{after}, {record.epochs} epochs'
        tag = f"`{record.tag}`" + (f" = `{record.dataset}`" if record.default else "")
        top1 = f"{record.top1:.2f}" + (f" ({record.classes} classes)" if record.dataset == "transfer" else "")
        rows.append([tag, top1, RESULTS[record.name]["top5"], made, f"{record.size / 1e6:.1f} MB"])
    return table(["tag", "top-1, %", "top-5, %", "training", "file"], rows)


def robustness(variant: str) -> str:
    """Accuracy of the weights of a net on corrupted images, and calibration errors: a column for each tag."""
    records = records_of(variant)
    rows = [[text, *(RESULTS[record.name][field] for record in records)] for field, text in MEASURED.items()]
    return table(["", *(f"`{record.tag}`" for record in records)], rows)


def recommended(transfer: str) -> str:
    """The weights that most users want; `transfer` is the address of the page about new classes."""
    rows = []
    for purpose, name in RECOMMENDED.items():
        record, result = weights_info(name), RESULTS[weights_info(name).name]
        tag, more = record.dataset if record.default else record.tag, ""
        values = [f"{record.top1:.2f}", result["noise_12"], result["blur_0.8"]]
        if record.dataset == "transfer":  # Its accuracy on its own classes says little about new ones.
            more, values = ", classes=2, fresh_head=True", [f"[see there]({transfer})", "", ""]
        rows.append([purpose, f'`AllConvNet("{record.variant}", weights="{tag}"{more})`', *values])
    return table(["", "model", "top-1, %", "with noise, %", "with blur, %"], rows)


def records_of(variant: str) -> list[Weights]:
    """The published weights of a net, defaults first."""
    return sorted((WEIGHTS[name] for name in list_weights(variant)), key=lambda record: not record.default)


def finished(pattern: str) -> dict[str, dict]:
    """The results of the runs of that name, by name."""
    return {folder.name: json.loads((folder / "result.json").read_text()) for folder in sorted(RUNS.glob(pattern))}


def trained_with_best(variant: str) -> Weights:
    """The CIFAR-10 weights of a net that were trained with the recipe "best"."""
    records = [WEIGHTS[name] for name in list_weights(variant)]
    return next(record for record in records if (record.recipe, record.dataset) == ("best", "cifar10"))


def comparison() -> str:
    """The paper's comparison: what replaces pooling, by base; its error and that of our weights."""
    rows = []
    for family in FAMILIES:
        row = [f"`{family}_*`"]
        for base in "abc":
            variant = f"{family}_{base}"
            row.append(f"{PAPER_ERRORS[variant]:.2f} / {100 - trained_with_best(variant).top1:.2f}")
        rows.append(row)
    return table(["", *(f"base {base}, paper / ours" for base in "ABC")], rows)


def fast() -> str:
    """The table of the runs of "fast", whose weights are not published."""
    rows = []
    for name, run in finished("fast.seed*").items():
        log = rows_of(f"runs/{name}/log.csv")
        seconds = sum(float(row["seconds"]) for row in log)
        rows.append([run["seed"], len(log), run["cost"], run["top1"], round(seconds), run["machine"]])
    top1 = [row[3] for row in rows]
    mean = f"{fmean(top1):.2f} ± {stdev(top1):.2f}"
    rows.append(["mean, deviation", "", "", mean, round(fmean(row[4] for row in rows)), ""])
    lines = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return table(["seed", "epochs", "cost", "top-1, %", "seconds", "on"], lines)


def reached() -> str:
    """What each recipe does, its cost, and what all_cnn_c reaches with it on the test images."""
    rows, runs = [], [run for run in finished("*").values() if run["variant"] == "all_cnn_c"]
    for recipe, note in RECIPE_NOTES.items():
        top1 = [run["top1"] for run in runs if run["recipe_name"] == recipe and run["dataset"] != "transfer"]
        rows.append([f'"{recipe}"', note, f"{RECIPES[recipe].cost():.1f}", f"{fmean(top1):.2f}" if top1 else ""])
    return table(["recipe", "training", "cost", "top-1, %"], rows)


def recipes(*names: str) -> str:
    """The table of these recipes, a column each: the fields that have other values than by default in one of them."""
    columns, defaults = {name: asdict(RECIPES[name]) for name in names}, asdict(Recipe(phases=((1, 32),)))
    for values in columns.values():  # What does not act in it.
        schedules = {"warmup": "linear", "decay": "inverse_time"}
        idle = {field: values["schedule"] != schedule for field, schedule in schedules.items()}
        idle["muon_momentum"] = not values["muon_rate"]
        values |= dict.fromkeys((field for field, holds in idle.items() if holds), "")
    rows = []
    for field in next(iter(columns.values())):
        values = [values[field] for values in columns.values()]
        if field == "phases":
            values = [" + ".join(f"{epochs} of {side}x{side}" for epochs, side in value) for value in values]
        if any(value not in ("", defaults[field]) for value in values):
            rows.append([f"`{field}`", *(str(value) if value not in ((), "") else "-" for value in values)])
        if field == "phases":
            rows.append(["cost, epochs of 32x32", *(f"{RECIPES[name].cost():.1f}" for name in columns)])
    return table(["", *(f'"{name}"' for name in columns)], rows)


def page(variant: str) -> str:
    """The page of a net."""
    spec, records = SPECS[variant], records_of(variant)
    family, _, base = variant.rpartition("_")
    lines = [f"# {variant}", NET_NOTES.get(variant) or NET_NOTES[family].format(base.upper())]
    lines.append(f"![Layers of {variant}](../diagrams/{variant}.png)")
    params, multiplications = size(spec)
    sizes = f"{params:,} parameters; {multiplications / 1e6:,.0f} million multiply-adds for an image"
    lines.append(f"{sizes} of {spec.side}x{spec.side} pixels.")
    if variant in PAPER_ERRORS:
        data = {32: "CIFAR-10 without augmentation", 126: "CIFAR-10", 224: "ImageNet"}[spec.side]
        more = "; with augmentation 92.75 %; on CIFAR-100 66.29 %" if variant == "all_cnn_c" else ""
        lines.append(f"Top-1 accuracy in the paper: {100 - PAPER_ERRORS[variant]:.2f} % on {data}{more}.")
    first = next((record for record in records if record.default), None)
    load = f'"{variant}", weights="{first.dataset}"' if first else f'"{variant}", weights=None'
    lines.append(f"```python\nimport allconvnet\n\nmodel = allconvnet.AllConvNet({load})\n```")
    if not records:
        lines.append("There are no published weights for this net: pass `weights=None` or your own file.")
    else:
        lines += ["## Weights", weights(variant), NOTES_ON_WEIGHTS]
        lines += ["## Calibration and corrupted images", robustness(variant), NOTES_ON_ROBUSTNESS]
        if any(RECIPES[record.recipe].corrupt for record in records):
            lines.append(NOTE_ON_ALL_CNN_C)
    lines += ["## Layers", layers(variant)]
    for record in records:
        lines += [f"## {record.tag}", details(record)]
    return "\n\n".join(lines) + "\n"


def details(record: Weights) -> str:
    """How weights were trained, and how they confuse the classes."""
    start = RECIPES[record.recipe].start
    run = json.loads((RUNS / record.name / "result.json").read_text())
    of = " of CIFAR-10 and of half of the classes of CIFAR-100" if record.dataset == "transfer" else ""
    after = f" after those of `{start}`" if start else ""
    lines = [
        f'* Load: `AllConvNet("{record.variant}", weights="{record.tag}")`',
        f'* Training: recipe ["{record.recipe}"](../background/recipes.md), '
        f"{record.epochs} epochs{after}, seed {record.seed}, all {run['images']:,} training images{of}; "
        f"on {record.machine}; {record.versions}",
        f"* License: {record.license}. SHA-256: `{record.sha256}`",
    ]
    curve = f"![Training curve](../runs/{record.name}/curve.png)"
    confusions = f"![Confusions of {record.name}](../confusion/{record.name}.png)"
    return "\n\n".join(["\n".join(lines), curve, confusions])


NOTES_ON_WEIGHTS = """\
Accuracy on all test images of the data set, single crop, one training run ([how it is
measured](../background/measured.md))."""
NOTES_ON_ROBUSTNESS = """\
[How it is measured](../background/measured.md#how-accuracy-is-measured), by `docs/cards.py`."""
NOTE_ON_ALL_CNN_C = """\
Those called "robust" were trained with corruptions of these kinds, weaker and stronger; the others were not."""


def pages() -> dict[Path, str]:
    """The text that each page should have, by its path."""
    texts = {TOP / f"docs/models/{variant}.md": page(variant) for variant in SPECS}
    for path in (TOP / "README.md", *TOP.glob("docs/*/*.md")):
        if path not in texts:
            texts[path] = filled(path.read_text())
    return texts


def filled(text: str) -> str:
    """The text of a page with its tables."""

    def replacement(found: re.Match) -> str:
        name, *arguments = found[2].split()
        return f"{found[1]}{globals()[name](*arguments)}\n{found[3]}"

    text, count = TABLE.subn(replacement, text)
    if count != len(re.findall(r"^<!-- table ", text, re.MULTILINE)):
        raise ValueError("A table has no end.")
    return text


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
