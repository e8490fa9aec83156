"""Draw docs/architecture.svg: the layers of scripts/smlp, their modules, and which layer imports which.

The picture is made from the imports that are in the code, also from those inside functions. The same code gives the
same file, byte for byte. The standard library is all that this script needs.

  python docs/architecture.py                       # writes docs/architecture.svg
  python docs/architecture.py --root DIR --output FILE
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
# From the bottom to the top; each layer may import only those before it. The commands are scripts/*.py.
LAYERS = ("core", "data", "models", "backends", "results", "commands")
# Beside the layers: the plan of a sweep, and the rules that use it.
BESIDE = ("workflow", "rules")
TITLES = {"commands": "commands: scripts/*.py", "rules": "Snakefile, rules/"}
# One colour per importing layer; each is readable on the light background that the picture brings along.
COLOURS = {
    "data": "#0b7285",
    "models": "#5f3dc4",
    "backends": "#c2255c",
    "results": "#2b8a3e",
    "commands": "#1864ab",
    "workflow": "#a65400",
    "rules": "#495057",
}
# Pixels. A column of boxes for the layers, on its left one lane for the arrows of each layer; the rest is on the right.
LEFT, WIDTH, LANE, GAP, MARGIN = 130, 500, 18, 26, 20
BESIDE_LEFT, BESIDE_WIDTH = 730, 210
LINE, TITLE, CHARACTER = 18, 30, 7.3

Edges = dict[str, set[str]]


class Box(NamedTuple):
    """A layer in the picture."""

    name: str
    left: int
    top: int
    width: int
    height: int
    lines: list[str]

    @property
    def right(self) -> int:
        return self.left + self.width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="folder that holds scripts/ and rules/")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "architecture.svg", help="file to write")
    flags = parser.parse_args()
    flags.output.write_text(draw(flags.root), encoding="utf-8")


def draw(root: Path) -> str:
    """The picture of the code in `root`, as the text of an SVG file."""
    return svg(place(modules(root)), edges(root))


# --- what the code says


def modules(root: Path) -> dict[str, list[str]]:
    """Layer -> its modules; a package within a layer, such as backends/ascend, is one name with a slash."""
    found: dict[str, list[str]] = {"commands": sorted(path.stem for path in (root / "scripts").glob("*.py"))}
    for layer in (*LAYERS[:-1], "workflow"):
        folder = root / "scripts" / "smlp" / layer
        paths = [path for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py")) if path.parent != folder.parent]
        names = {path.parent.name + "/" if path.parent != folder else path.stem for path in paths}
        found[layer] = sorted(names - {"__init__"})
    found["rules"] = sorted(path.name for path in (root / "rules").glob("*.smk"))
    return found


def edges(root: Path) -> Edges:
    """Importing layer -> the other layers that it imports."""
    found: Edges = {}
    scripts = root / "scripts"
    for path in sorted(scripts.rglob("*.py")):
        parts = path.relative_to(scripts).with_suffix("").parts
        if parts[0] != "smlp":
            source = "commands"
        elif len(parts) > 2:
            source = parts[1]
        else:  # smlp/__init__.py
            continue
        package = parts[:-1]  # of `from . import …`, in a module and in an __init__.py alike
        found.setdefault(source, set()).update(_imported(ast.parse(path.read_text(encoding="utf-8")), package))
    for path in [root / "Snakefile", *sorted((root / "rules").glob("*.smk"))]:  # no Python that ast could read
        for package, names in re.findall(
            r"^\s*from scripts\.smlp([\w.]*) import (.+)$", path.read_text(), re.MULTILINE
        ):
            layers = [package.split(".")[1]] if package else [name.split()[0] for name in names.split(",")]
            found.setdefault("rules", set()).update(layers)
    known = {*LAYERS, *BESIDE}
    return {source: {target for target in targets if target in known} - {source} for source, targets in found.items()}


def _imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The layers that a module of `package` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "smlp" and len(parts) > 1:
                    yield parts[1]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            if base[:1] == ["smlp"]:
                yield from [base[1]] if len(base) > 1 else [alias.name for alias in node.names]


# --- where it goes


def place(listed: dict[str, list[str]]) -> dict[str, Box]:
    """A box per layer: the layers one above the other, core at the bottom; rules and workflow on the right."""
    boxes = {}
    top = MARGIN
    for layer in reversed(LAYERS):
        lines = _wrapped(listed[layer], WIDTH)
        boxes[layer] = Box(layer, LEFT, top, WIDTH, TITLE + LINE * len(lines) + 8, lines)
        top += boxes[layer].height + GAP
    top = MARGIN
    for layer in reversed(BESIDE):
        lines = _wrapped(listed[layer], BESIDE_WIDTH)
        boxes[layer] = Box(layer, BESIDE_LEFT, top, BESIDE_WIDTH, TITLE + LINE * len(lines) + 8, lines)
        top += boxes[layer].height + 3 * GAP
    return boxes


def _wrapped(names: list[str], width: int) -> list[str]:
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}, {name}" if lines[-1] else name
        if len(longer) * CHARACTER > width - 2 * 12:
            lines[-1] += ","
            lines.append(name)
        else:
            lines[-1] = longer
    return lines


def svg(boxes: dict[str, Box], imports: Edges) -> str:
    """Boxes and arrows. Each importing layer has a lane of its own, from which arrows lead to what it imports."""
    height = max(box.top + box.height for box in boxes.values()) + 46
    width = BESIDE_LEFT + BESIDE_WIDTH + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>The layers of smlp-sweep, and which layer imports which</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="#ced4da"/>',
        "<defs>",
    ]
    for name, colour in COLOURS.items():
        parts.append(
            f'<marker id="head-{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        )
    parts.append("</defs>")
    for box in boxes.values():
        colour = COLOURS.get(box.name, "#212529")
        parts.append(
            f'<rect x="{box.left}" y="{box.top}" width="{box.width}" height="{box.height}" rx="6" fill="#f8f9fa" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
        parts.append(_text(box.left + 12, box.top + 20, TITLES.get(box.name, box.name + "/"), colour, 14, bold=True))
        for number, line in enumerate(box.lines):
            parts.append(_text(box.left + 12, box.top + TITLE + 12 + number * LINE, line, "#212529", 13))
    for source in (*LAYERS, *BESIDE):
        parts += _arrows(source, boxes, imports.get(source, set()))
    text = "An arrow: the layer imports the other one. Each layer may import only those below it."
    parts.append(_text(LEFT, height - 16, text, "#495057", 13))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(left: float, base: float, text: str, colour: str, size: int, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{left}" y="{base}" font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'


def _arrows(source: str, boxes: dict[str, Box], targets: set[str]) -> Iterator[str]:
    """From `source` along its lane to each target; on the left within the layers, on the right otherwise."""
    box = boxes[source]
    for target in sorted(targets):
        other = boxes[target]
        if source in LAYERS and target in LAYERS:
            rank = LAYERS.index(source)
            lane, start, end = LEFT - LANE * rank, box.left, other.left
            # several arrows end at one box, each at a height of its own
            middle = other.top + other.height * (LAYERS.index(source) - LAYERS.index(target)) / len(LAYERS)
            begin = box.top + box.height - 10
        elif source in LAYERS:  # a command that uses the plan
            lane, start, end = box.right + LANE, box.right, other.left
            begin, middle = box.top + box.height - 10, other.top + 20
        elif target in LAYERS:
            rank = BESIDE.index(source) + 2
            lane, start, end = LEFT + WIDTH + LANE * rank, box.left, other.right
            begin, middle = box.top + box.height - 10, other.top + other.height * (rank - 1) / 3
        else:  # the rules and the plan below them
            lane = box.left + box.width // 2
            yield _line(source, f"M{lane},{box.top + box.height} V{other.top}")
            continue
        yield _line(source, f"M{start},{begin} H{lane} V{middle:.0f} H{end}")


def _line(source: str, path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{COLOURS[source]}" marker-end="url(#head-{source})"/>'


if __name__ == "__main__":
    main()
