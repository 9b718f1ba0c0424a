"""Writes the tables of README.md and the pages of docs/ from the package's own tables and docstrings.

python docs/tables.py            # writes
python docs/tables.py --check    # fails where a file is not as it would be written
"""

import inspect
import re
import sys
from dataclasses import asdict
from pathlib import Path

import allconvnet
from allconvnet._specs import SPECS
from allconvnet._weights import WEIGHTS
from allconvnet.training import RECIPES

TOP = Path(__file__).parents[1]


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
    """The table of published weights."""
    rows = []
    for name, record in WEIGHTS.items():
        error = SPECS[record.variant].paper_error
        rows.append(
            [
                f"`{name}`",
                f"{record.params:,}",
                f"{record.size / 1e6:.1f} MB",
                f"{record.top1:.2f} %",
                f"{record.split}, {record.images:,} images, single crop, one run",
                f"{100 - error:.2f} %" if error else "",
                f'"{record.recipe}", {record.epochs} epochs (cost {record.cost:.1f} at full size), seed {record.seed}',
            ]
        )
    head = ["weights", "parameters", "file", "top-1", "measured on", "the paper's net, no augmentation", "recipe"]
    return table(head, rows)


def recipes() -> str:
    """The table of recipes: a column each, but what all share."""
    columns = {name: asdict(recipe) for name, recipe in RECIPES.items()}
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


def api() -> str:
    """The reference of everything public."""
    parts = ["# Reference\n\nWhat `import allconvnet` offers. Made from the docstrings by `docs/tables.py`."]
    for name in allconvnet.__all__:
        value = getattr(allconvnet, name)
        if callable(value):
            signature = str(inspect.signature(value)).replace("allconvnet.", "")
            parts.append(f"## {name}\n\n```text\n{name}{signature}\n\n{inspect.getdoc(value)}\n```")
        elif isinstance(value, dict):
            parts.append(f"## {name}\n\n```text\n" + "\n".join(f"{k}: {v}" for k, v in value.items()) + "\n```")
        else:
            parts.append(f"## {name}\n\n`{value!r}`")
    return "\n\n".join(parts) + "\n"


def filled(text: str) -> str:
    """Text with the tables between their markers."""
    for name, content in (("nets", nets()), ("weights", weights()), ("recipes", recipes())):
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{content}\n\g<2>", text, flags=re.DOTALL)
    return text


def main() -> None:
    """Command line."""
    pages = {page: filled(page.read_text()) for page in (TOP / "README.md", TOP / "docs/train.md")}
    pages[TOP / "docs/api.md"] = api()
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"Run python docs/tables.py: {', '.join(path.name for path in stale)} would change." if stale else 0)
    for path in stale:
        path.write_text(pages[path])


if __name__ == "__main__":
    main()
