"""Writes the tables of README.md and the pages of docs/ from the package's own tables and docstrings.

PYTHONPATH=src python docs/tables.py            # writes
PYTHONPATH=src python docs/tables.py --check    # fails where a file is not as it would be written
"""

import csv
import inspect
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

import allconvnet
from allconvnet._specs import SPECS
from allconvnet._weights import WEIGHTS, Weights
from allconvnet.training import RECIPES, _completed

TOP = Path(__file__).parents[1]
RUNS = TOP / "docs/runs"
FAMILIES = ("model", "strided_cnn", "convpool_cnn", "all_cnn")
# Names of the runs of all_cnn_c, and what they were to reach on CIFAR-10.
AIMS = {
    "fast": ("fast.seed*", "90 % within 3.0"),
    "best": ("all_cnn_c.cifar10_v*", "94.0 % within 15"),
    "long": ("all_cnn_c.cifar10_v*", "95.0 %"),
    "distilled": ("all_cnn_c.cifar10_v*", "95.0 %"),
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
    return table(["net", "parameters", "images", "paper's top-1 error, %", ""], rows)


def weights() -> str:
    """The table of published weights, in the order of the nets."""
    order = sorted(WEIGHTS.values(), key=lambda w: ([*SPECS].index(w.variant), w.dataset, w.version))
    rows = [
        [
            f"`{record.name}`",
            f"{record.params:,}",
            f"{record.size / 1e6:.1f} MB",
            f"{error:.2f}" if (error := paper_error(record)) else "",
            f"{100 - record.top1:.2f}",
            f'"{record.recipe}", {record.epochs} epochs ({record.cost:.1f}), seed {record.seed}',
            f"{record.seconds:,.0f}",
            record.machine,
        ]
        for record in order
    ]
    head = ["weights", "parameters", "file", "paper's error, %", "ours, %", "training", "seconds", "on"]
    return table(head, rows)


def paper_error(record: Weights) -> float | None:
    """The paper's top-1 error of this net on this data set, percent; on CIFAR-10 without augmentation."""
    return SPECS[record.variant].paper_error if record.dataset == "cifar10" else PAPER_CIFAR100.get(record.variant)


def finished(pattern: str) -> dict[str, dict]:
    """The results of the runs of that name, of those on all images with a recipe as it is now."""
    results = {folder.name: json.loads((folder / "result.json").read_text()) for folder in sorted(RUNS.glob(pattern))}
    recipes = {name: json.loads(json.dumps(asdict(replace(recipe, source="")))) for name, recipe in RECIPES.items()}
    return {
        name: result
        for name, result in results.items()
        if _completed(result["recipe"]) == recipes[result["recipe_name"]]
        and (result["images"], result["split"]) == (50_000, "test")
    }


def newest(variant: str) -> Weights | None:
    """The newest CIFAR-10 weights of a net, of those trained with the recipe that is "best" now."""
    records = [WEIGHTS[name] for name, run in finished(f"{variant}.cifar10_v*").items() if run["recipe_name"] == "best"]
    return max(records, key=lambda record: record.version, default=None)


def comparison() -> str:
    """The paper's comparison: what stands in for pooling, by base; its error and that of the newest weights."""
    rows = []
    for family in FAMILIES:
        row = [f"`{family}_*`"]
        for base in "abc":
            variant = f"{family}_{base}"
            record = newest(variant)
            row += [f"{SPECS[variant].paper_error:.2f}", f"{100 - record.top1:.2f}" if record else "-"]
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
    """What all_cnn_c reached with each recipe as it is now, against what was aimed at: a row each."""
    rows = []
    for recipe, (pattern, aim) in AIMS.items():
        runs = [run for run in finished(pattern).values() if run["recipe_name"] == recipe]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        if runs:
            rows.append(
                [f'"{recipe}"', f"{runs[0]['cost']:.1f}", aim, f"{fmean(run['top1'] for run in runs):.2f}", seeds]
            )
    return table(["recipe", "cost", "aimed at", "top-1, % (mean)", "seeds"], rows)


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
        if field == "teachers":
            values = [", ".join(value) for value in values]
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
    for made in (nets, weights, comparison, fast, reached, recipes):
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
