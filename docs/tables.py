"""Writes the tables of README.md and the pages of docs/ from the package's own tables and docstrings.

python docs/tables.py            # writes
python docs/tables.py --check    # fails where a file is not as it would be written
"""

import csv
import inspect
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import allconvnet
from allconvnet._specs import SPECS
from allconvnet._weights import WEIGHTS, Weights, list_weights, weights_info
from allconvnet.recipes import RECIPES

TOP = Path(__file__).parents[1]
RUNS = TOP / "docs/runs"
FAMILIES = ("model", "strided_cnn", "convpool_cnn", "all_cnn")
RECOMMENDED = {
    "default": "all_cnn_c.cifar10",
    "under a million parameters": "model_c.cifar10",
    "the 100 classes of CIFAR-100": "all_cnn_c.cifar100",
}
PAPER_CIFAR100 = {"all_cnn_c": 33.71}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def nets() -> str:
    """The table of nets."""
    rows = [
        [f"`{name}`", f"{s.params:,}", f"{s.side}x{s.side}", f"{s.paper_error:.2f}" if s.paper_error else "", s.note]
        for name, s in SPECS.items()
    ]
    return table(["net", "parameters", "images", "top-1 error in the paper, %", ""], rows)


def weights() -> str:
    """The table of published weights, in the order of the index."""
    rows = [
        [
            f"`{record.name}`",
            "yes" if record.default else "",
            f"{record.top1:.2f}",
            f"{100 - error:.2f}" if (error := paper_error(record)) else "",
            f'"{record.recipe}", {record.seconds / 60:,.0f} minutes',
            f"{record.size / 1e6:.1f} MB",
        ]
        for record in WEIGHTS.values()
    ]
    return table(["weights", "default", "top-1, %", "in the paper, %", "training", "file"], rows)


def recommended() -> str:
    """The weights that most users want."""
    rows = []
    for purpose, name in RECOMMENDED.items():
        record = weights_info(name)
        millions = SPECS[record.variant].multiplications / 1e6
        call = f'`AllConvNet("{record.variant}", weights="{record.dataset}")`'
        rows.append([purpose, call, f"{record.top1:.2f}", f"{record.params:,}", f"{millions:.0f} million"])
    return table(["", "model", "top-1, %", "parameters", "multiplications"], rows)


def paper_error(record: Weights) -> float | None:
    """The paper's top-1 error of this net on this data set, percent; on CIFAR-10 without augmentation."""
    return SPECS[record.variant].paper_error if record.dataset == "cifar10" else PAPER_CIFAR100.get(record.variant)


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
            row += [f"{SPECS[variant].paper_error:.2f}", f"{100 - trained_with_best(variant).top1:.2f}"]
        rows.append(row)
    return table(["", *(f"{base}, {whose}" for base in "ABC" for whose in ("paper", "ours"))], rows)


def fast() -> str:
    """The table of the runs of "fast", whose weights are not published."""
    rows = []
    for name, run in finished("fast.seed*").items():
        log = list(csv.DictReader((RUNS / name / "log.csv").read_text().splitlines()))
        seconds = sum(float(row["seconds"]) for row in log)
        rows.append([run["seed"], len(log), run["cost"], run["top1"], round(seconds), run["machine"]])
    mean = ["mean", "", "", fmean(row[3] for row in rows), round(fmean(row[4] for row in rows)), ""]
    lines = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in (*rows, mean)]
    return table(["seed", "epochs", "cost", "top-1, %", "seconds", "on"], lines)


def reached() -> str:
    """Accuracy of all_cnn_c with each recipe."""
    rows = []
    for recipe, pattern in {
        "fast": "fast.seed*",
        "best": "all_cnn_c.cifar10_v*",
        "long": "all_cnn_c.cifar10_v*",
    }.items():
        runs = [run for run in finished(pattern).values() if run["recipe_name"] == recipe]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        rows.append([f'"{recipe}"', f"{runs[0]['cost']:.1f}", f"{fmean(run['top1'] for run in runs):.2f}", seeds])
    return table(["recipe", "cost", "top-1, % (mean)", "seeds"], rows)


def recipes() -> str:
    """The table of recipes: a column each, but what all share."""
    columns = {name: asdict(recipe) for name, recipe in RECIPES.items()}
    for values in columns.values():  # What does not act in it.
        idle = {"muon_momentum": not values["muon_rate"], "warmup": values["schedule"] != "linear"}
        values |= dict.fromkeys((field for field, holds in idle.items() if holds), "")
    rows = []
    fields = [field for field in next(iter(columns.values())) if field != "source"]
    for field in fields:
        values = [values[field] for values in columns.values()]
        if field == "phases":
            values = [" + ".join(f"{epochs} of {side}x{side}" for epochs, side in value) for value in values]
        rows.append([f"`{field}`", *(str(value) if value not in ((), "") else "-" for value in values)])
        if field == "phases":
            rows.append(["cost, epochs of 32x32", *(f"{recipe.cost():.1f}" for recipe in RECIPES.values())])
    return table(["", *(f'"{name}"' for name in columns)], rows)


def described(name: str, value) -> str:
    """Signature and docstring."""
    signature = str(inspect.signature(value)).replace("allconvnet.", "") if callable(value) else ""
    signature = re.sub(r"(: |-> )'(.*?)'", r"\1\2", signature)  # Annotations are strings.
    return f"{name}{signature}\n\n{inspect.getdoc(value)}"


def public(kind: type) -> dict:
    """The public properties and methods of a class that are its own and documented there."""
    inherited = {name for base in kind.__mro__[1:] for name in vars(base)}
    own = {name: getattr(kind, name) for name in vars(kind) if not name.startswith("_") and name not in inherited}
    return {name: value for name, value in own.items() if callable(value) or isinstance(value, property)}


def api() -> str:
    """The reference of everything public."""
    parts = ["# Reference\n\nWhat `import allconvnet` offers. Made from the docstrings by `docs/tables.py`."]
    for name in allconvnet.__all__:
        value = getattr(allconvnet, name)
        if callable(value):
            members = public(value) if inspect.isclass(value) else {}
            texts = [described(name, value), *(described(f"{name}.{member}", of) for member, of in members.items())]
            parts.append(f"## {name}\n\n```text\n" + "\n\n".join(texts) + "\n```")
        elif isinstance(value, dict):
            parts.append(f"## {name}\n\n```text\n" + "\n".join(f"{k}: {v}" for k, v in value.items()) + "\n```")
        else:
            parts.append(f"## {name}\n\n`{value!r}`")
    return "\n\n".join(parts) + "\n"


def filled(text: str) -> str:
    """Text with the tables between their markers."""
    for made in (nets, weights, recommended, comparison, fast, reached, recipes):
        name, content = made.__name__, made()
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{content}\n\g<2>", text, flags=re.DOTALL)
    return text


def main() -> None:
    """Command line."""
    pages = {page: filled(page.read_text()) for page in (TOP / "README.md", *TOP.glob("docs/[a-z]*.md"))}
    pages[TOP / "docs/api.md"] = api()
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"Run python docs/tables.py: {', '.join(path.name for path in stale)} would change." if stale else 0)
    for path in stale:
        path.write_text(pages[path])


if __name__ == "__main__":
    main()
