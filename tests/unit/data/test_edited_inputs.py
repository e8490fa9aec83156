"""Good data sets after random edits: every label is the one that the data set still states, or there is an error.

What the data set states is read here once more, by another way than the product's: each class folder has the name, or
the number, of a class of the model; each line of a label file has its index. Where nothing but names of folders tells
the classes (no list, no numbers), no program can see that a folder was renamed, so that this edit is left out there.
"""

import collections
import json
import os
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

from smlp.core.cli import UserError
from smlp.data import dataset, manifest
from smlp.data.class_lists import spelled

EXAMPLES = 300
OUTCOMES = collections.Counter()

PLAIN = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kiwi", "lynx", "mole", "newt")
MIXED = ("class_10", "class_2", "Zebra", "ant", "Ölvogel", "caf\u00e9", "b 7", "B 10", "_x", "n01440764", "x.y", "9a")
JUNK = (".thumbnails", "@eaDir", "__MACOSX", "lost+found", ".git", "#recycle")


class Case:
    """A data set on the disk, the settings that go with it, and how many classes the model has."""

    def __init__(self, root, kind, names):
        self.root, self.kind, self.names = root, kind, list(names)
        self.val, self.outputs = root / "val", len(names)
        self.settings = {}
        self.by_name = kind in ("list", "class_to_idx", "label file")

    def write(self):
        """The good data set, two images of each class."""
        for number, name in enumerate(self.names):
            for image in range(2):
                self.add(f"{number}-{image}.png" if self.kind == "label file" else f"{name}/{image}.png")
        if self.kind == "label file":
            lines = [f"{number}-{image}.png {number}" for number in range(self.outputs) for image in range(2)]
            self.write_lines(self.root / "val_label.txt", lines)
        if self.kind == "list":
            self.settings["classes"] = str(self.root / "names.txt")
            self.write_lines(self.root / "names.txt", self.names)
        if self.kind == "class_to_idx":
            self.settings["classes"] = str(self.root / "class_to_idx.json")
            content = {name: number for number, name in reversed(list(enumerate(self.names)))}
            (self.root / "class_to_idx.json").write_text(json.dumps(content))
        if self.kind in ("torchvision", "timm"):
            self.settings["order"] = self.kind

    def add(self, image):
        (self.val / image).parent.mkdir(parents=True, exist_ok=True)
        (self.val / image).write_text(image)

    def folders(self):
        return sorted(path for path in self.val.iterdir() if path.is_dir())

    def images(self):
        return sorted(path for path in self.val.rglob("*.png") if path.is_file())

    def lines(self, name="val_label.txt"):
        return (self.root / name).read_text().split("\n")[:-1]

    def write_lines(self, path, lines):
        path.write_text("".join(f"{line}\n" for line in lines))

    def stated(self):
        """Label by image, as the disk states it now; None where it states none, or two."""
        shift = 0 if "background_class" not in self.settings else 1
        by_line = {}
        if self.kind == "label file":
            by_line = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in self.lines() if line.strip()}
        parts_of = {}
        for path in self.images():
            parts = path.relative_to(self.val).parts[:-1]
            if not any(part.startswith((".", "@")) or part in JUNK for part in parts):
                parts_of[path] = parts
        if not self.by_name:  # a folder that holds all the others is no class
            while len({parts[:1] for parts in parts_of.values()}) == 1 and all(len(p) > 1 for p in parts_of.values()):
                parts_of = {path: parts[1:] for path, parts in parts_of.items()}
        numbers = {int(part) for parts in parts_of.values() for part in parts if part.isdecimal()}
        first = 1 if numbers == set(range(1, len(self.names) + 1)) else 0
        known = {spelled(name): number for number, name in enumerate(self.names)}
        found = {}
        for path, parts in parts_of.items():
            if self.kind == "label file":
                indices = {int(by_line[path.name])} if path.name in by_line else set()
            elif self.kind == "numbers":
                indices = {int(part) - first for part in parts if part.isdecimal()}
            else:
                indices = {known[spelled(part)] for part in parts if spelled(part) in known}
            found[path.relative_to(self.root).as_posix()] = min(indices) + shift if len(indices) == 1 else None
        return found

    def labels(self):
        """What the product makes of it. Raises UserError."""
        listed = dataset.listed(self.root, **self.settings)
        facts = {"classes": listed.facts["classes"], "labels": listed.facts, "left_out": listed.left_out}
        dataset.sidecar_path(self.root / "bins").write_text(json.dumps(facts))
        manifest.require_classes([self.root / "bins"], self.outputs, "the engine")
        return {entry.image: entry.label for entry in listed.entries}


# edits: what they do to a case, with `choose` to draw from a list


def rename(case, choose):
    case_of = choose([str.upper, str.title, lambda name: f"{name} ", lambda name: name[:-1] or "x", lambda name: "zz"])
    folder = choose(case.folders())
    target = choose([case_of(folder.name), f"{choose(range(20))}", f"0{folder.name}", "all images", "aa"])
    if not (case.val / target).exists():
        folder.rename(case.val / target)


def respell(case, choose):
    folder = choose(case.folders())
    shutil.move(folder, case.root / "moved")
    shutil.move(case.root / "moved", case.val / unicodedata.normalize("NFD", folder.name))


def exchange(case, choose):
    one, other = choose(case.folders()), choose(case.folders())
    if one != other:
        one.rename(case.root / "moved")
        other.rename(one)
        (case.root / "moved").rename(other)


def hide(case, choose):
    folder = choose(case.folders())
    folder.rename(case.val / choose([f".{folder.name}", f"@{folder.name}", *JUNK]))


def add_folder(case, choose):
    case.add(f"{choose(['aardvark', 'zzz', 'train', 'Other', '99', 'images', 'm 1'])}/0.png")


def add_junk(case, choose):
    place = choose(["", *(f"{path.name}/" for path in case.folders())])
    case.add(f"{place}{choose(JUNK)}/{choose(['', 'deep/'])}0.png")


def wrap_everything(case, choose):
    case.val.rename(case.root / "moved")
    case.val.mkdir()
    (case.root / "moved").rename(case.val / choose(["images", "ILSVRC2012_val", "5", case.names[0]]))


def wrap_one(case, choose):
    folder = choose(case.folders())
    folder.rename(case.root / "moved")
    place = case.val / choose(["more", "aa", "zz", "3"])
    place.mkdir(exist_ok=True)
    (case.root / "moved").rename(place / folder.name)


def nest(case, choose):
    case.add(f"{choose(case.folders()).name}/{choose(case.folders()).name}/9.png")


def deepen(case, choose):
    """Tiny ImageNet's training split: a folder of the same name in every class."""
    for folder in case.folders():
        folder.rename(case.root / "moved")
        folder.mkdir()
        (case.root / "moved").rename(folder / "images")


def move_image(case, choose):
    image, folder = choose(case.images()), choose(case.folders())
    image.rename(folder / f"moved {image.name}")


def remove_folder(case, choose):
    shutil.rmtree(choose(case.folders()))


def empty_folder(case, choose):
    for image in choose(case.folders()).glob("*.png"):
        image.unlink()


def add_loose(case, choose):
    case.add("loose.png")


def edit_lines(case, choose):
    is_labels = case.kind == "label file"
    name = "val_label.txt" if is_labels else "names.txt"
    lines = case.lines(name)
    place, other = choose(range(len(lines))), choose(range(len(lines)))
    what = choose(["drop", "double", "empty", "add", *(["order", "labels", "beyond", "another"] * 2 * is_labels)])
    if what == "drop":
        del lines[place]
    elif what == "double":
        lines.insert(other, lines[place])
    elif what == "empty":
        lines.insert(place, "")
    elif what == "add":
        lines.insert(place, choose(["absent.png 0"] if is_labels else ["background", "yak"]))
    elif what == "order":
        lines[place], lines[other] = lines[other], lines[place]
    elif what == "labels" and place != other:
        one, two = lines[place].split(), lines[other].split()
        lines[place], lines[other] = f"{one[0]} {two[1]}", f"{two[0]} {one[1]}"
    elif what == "beyond":
        lines[place] = f"{lines[place].split()[0]} {case.outputs + choose(range(3))}"
    elif what == "another":
        lines.append(f"{lines[place].split()[0]} {choose(range(case.outputs))}")
    case.write_lines(case.root / name, lines)


def edit_images(case, choose):
    image = choose(case.images())
    if choose([True, False]):
        image.unlink()
    else:
        image.rename(image.with_name(f"other-{image.name}"))


def reshape_outputs(case, choose):
    case.outputs = max(case.outputs + choose([-2, -1, 1, 2, case.outputs, 989]), 1)


def add_background(case, choose):
    case.settings["background_class"] = 0
    case.outputs += choose([0, 1, 1, 1, 2])


IN_FOLDERS = [exchange, hide, add_folder, add_junk, wrap_everything, nest, deepen, move_image, remove_folder]
IN_FOLDERS += [empty_folder, add_loose, reshape_outputs, add_background]
EDITS = {
    "positions": [*IN_FOLDERS, wrap_one],
    "torchvision": IN_FOLDERS,
    "timm": [*IN_FOLDERS, wrap_one],
    "numbers": [*IN_FOLDERS, wrap_one, rename],
    "list": [*IN_FOLDERS, wrap_one, rename, respell, edit_lines, edit_lines],
    "class_to_idx": [*IN_FOLDERS, wrap_one, rename, respell],
    "label file": [edit_lines, edit_lines, edit_images, add_junk, add_folder, reshape_outputs, add_background],
}


# Where nothing but the folders tells the classes, two edits can undo each other's traces: one hides, one adds.
SEVERAL = ("list", "class_to_idx", "label file")


def timm_order(names):
    """As timm sorts, for names as they are here."""
    return sorted(names, key=lambda name: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name.lower())])


@st.composite
def plans(draw):
    """A kind of data set, its classes in the model's order, and edits with what they draw from."""
    kind = draw(st.sampled_from(sorted(EDITS)))
    if kind in ("numbers", "label file"):
        names = [str(number) for number in range(draw(st.integers(3, 13)))]
    else:
        source = PLAIN if kind == "positions" else MIXED
        names = draw(st.lists(st.sampled_from(source), min_size=3, max_size=len(source), unique=True))
        names = {"positions": sorted, "torchvision": sorted, "timm": timm_order}.get(kind, list)(names)
    edits = draw(st.lists(st.sampled_from(EDITS[kind]), min_size=1, max_size=3 if kind in SEVERAL else 1))
    return kind, names, edits


@hypothesis.settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
@hypothesis.given(plan=plans(), data=st.data())
def test_an_edited_data_set_has_the_right_labels_or_an_error(plan, data):
    kind, names, edits = plan
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder, "data"), kind, names)
        case.val.mkdir(parents=True)
        case.write()
        assert case.labels() == case.stated()  # good before
        for edit in edits:
            try:
                edit(case, lambda options: data.draw(st.sampled_from(list(options))))
            except (OSError, IndexError, hypothesis.errors.InvalidArgument):
                hypothesis.reject()  # an edit before has taken what this one needs
        hypothesis.note(f"{case.settings} {case.outputs} outputs {sorted(os.walk(folder))}")
        try:
            found = case.labels()
        except UserError as error:
            assert str(error).count("\n") == 0 and len(str(error)) > 40
            OUTCOMES["error"] += 1
            return
        assert found == case.stated()
        OUTCOMES["right labels"] += 1


def test_both_outcomes_were_seen():
    """Runs after the test above, as pytest keeps the order of a file."""
    if not OUTCOMES:
        test_an_edited_data_set_has_the_right_labels_or_an_error()
    print(dict(OUTCOMES))
    assert sum(OUTCOMES.values()) >= EXAMPLES and min(OUTCOMES["error"], OUTCOMES["right labels"]) > EXAMPLES / 5
