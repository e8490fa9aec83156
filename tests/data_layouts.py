"""The same images in every layout that people have data sets in: writers of each, in the order of the images."""

import csv
import io
import json
import tarfile
import zipfile
from typing import NamedTuple

import numpy as np
import pyarrow
from pyarrow import parquet
from scipy.io import savemat


class Sample(NamedTuple):
    """An image: its name, its class by the usual number and by its synset, its bytes."""

    name: str
    label: int
    synset: str
    content: bytes


def synset(label):
    return f"n{1000 + label:08d}"


def samples_of(contents):
    """Samples of (label, bytes), named as ImageNet's are, in the order of the list."""
    return [
        Sample(f"ILSVRC2012_val_{number:08d}.JPEG", label, synset(label), content)
        for number, (label, content) in enumerate(contents, 1)
    ]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def flat(root, samples, folder="val"):
    for sample in samples:
        put(root / folder / sample.name, sample.content)


def tar(path, members):
    """A tar of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def tar_bytes(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def by_class(samples):
    found = {}
    for sample in samples:
        found.setdefault(sample.synset, []).append((sample.name, sample.content))
    return found


# layouts


def class_folders(root, samples):
    for sample in samples:
        put(root / "val" / sample.synset / sample.name, sample.content)


def val_label(root, samples):
    flat(root, samples)
    put(root / "val_label.txt", "".join(f"{sample.name} {sample.label}\n" for sample in samples))


def val_txt(root, samples):
    flat(root, samples)
    put(root / "val.txt", "".join(f"val/{sample.name} {sample.label}\n" for sample in reversed(samples)))


def val_map(root, samples):
    flat(root, samples)
    put(root / "val" / "val_map.txt", "".join(f"{sample.name}\t{sample.label}\r\n" for sample in samples))


def devkit(root, samples):
    """ILSVRC numbers run against the usual indices."""
    flat(root, samples)
    truth_of_devkit(root, samples)


def truth_of_devkit(root, samples):
    count = 1 + max(sample.label for sample in samples)
    kinds = [(name, "O") for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    leaves = [(count - label, synset(label), "words", "gloss", 0) for label in range(count)]
    parent = (count + 1, "n00001740", "entity", "gloss", count)
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    put(folder / "ILSVRC2012_validation_ground_truth.txt", "".join(f"{count - sample.label}\n" for sample in samples))
    savemat(folder / "meta.mat", {"synsets": np.array([*leaves, parent], dtype=kinds)})


def kaggle(root, samples):
    flat(root, samples)
    rows = [f"{sample.name[:-5]},{sample.synset} 1 2 3 4 {sample.synset} 5 6 7 8 \n" for sample in reversed(samples)]
    put(root / "LOC_val_solution.csv", "ImageId,PredictionString\n" + "".join(rows))
    known = sorted({sample.synset for sample in samples})
    put(root / "LOC_synset_mapping.txt", "".join(f"{one} some, thing\n" for one in known))


def tiny_imagenet(root, samples):
    flat(root, samples, "val/images")
    lines = [f"{sample.name}\t{sample.synset}\t0\t32\t44\t62\n" for sample in samples]
    put(root / "val" / "val_annotations.txt", "".join(lines))


def hub_folder(root, samples):
    flat(root, samples)
    stream = io.StringIO()
    csv.writer(stream).writerows([("file_name", "label"), *((sample.name, sample.label) for sample in samples)])
    put(root / "val" / "metadata.csv", stream.getvalue())


def json_lines(root, samples):
    flat(root, samples)
    lines = [json.dumps({"file_name": sample.name, "label": sample.synset}) + "\n" for sample in samples]
    put(root / "val.jsonl", "".join(lines))


def tar_of_folders(root, samples):
    members = [(f"./val/{sample.synset}/{sample.name}", sample.content) for sample in reversed(samples)]
    tar(root / "val.tar", members)


def zip_of_folders(root, samples):
    root.mkdir(parents=True)
    with zipfile.ZipFile(root / "val.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in reversed(samples):
            archive.writestr(f"val/{sample.synset}/{sample.name}", sample.content)


def ilsvrc_tar(root, samples):
    tar(root / "ILSVRC2012_img_val.tar", [(sample.name, sample.content) for sample in reversed(samples)])
    truth_of_devkit(root, samples)


def tars_per_class(root, samples):
    for name, members in by_class(samples).items():
        tar(root / "val" / f"{name}.tar", members)


def tar_of_tars(root, samples):
    tar(root / "val.tar", [(f"{name}.tar", tar_bytes(members)) for name, members in by_class(samples).items()])


def webdataset(root, samples):
    for number, start in enumerate(range(0, len(samples), 20)):
        members = []
        for sample in samples[start : start + 20]:
            stem = sample.name[:-5]
            members += [(f"{stem}.cls", f"{sample.label}\n".encode()), (f"{stem}.jpg", sample.content)]
            members.append((f"{stem}.json", json.dumps({"filename": sample.name}).encode()))
        tar(root / f"imagenet1k-validation-{number:03d}.tar", members)


def webdataset_json(root, samples):
    members = []
    for sample in samples:
        stem = f"some/{sample.name[:-5]}"
        members += [(f"{stem}.jpg", sample.content), (f"{stem}.json", json.dumps({"label": sample.synset}).encode())]
    tar(root / "val-000000.tar", members)


def hub_table(samples):
    """Rows as the hub has them, and what it says about them."""
    rows = [{"bytes": sample.content, "path": f"/not/here/{sample.name}"} for sample in samples]
    names = sorted({sample.synset for sample in samples})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    table = pyarrow.table({"image": rows, "label": [names.index(sample.synset) for sample in samples]})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def hub_parquet(root, samples):
    (root / "data").mkdir(parents=True)
    table, half = hub_table(samples), len(samples) * 3 // 5
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        parquet.write_table(part, root / f"data/validation-{number:05d}-of-00002.parquet", row_group_size=7)


def plain_parquet(root, samples):
    """Bytes alone in a column, numbers as classes."""
    table = pyarrow.table({"picture": [one.content for one in samples], "label": [one.label for one in samples]})
    (root / "val").mkdir(parents=True)
    parquet.write_table(table, root / "val" / "0000.parquet")


def two_images_a_row(path, count, content=lambda column, row: f"{column} {row}".encode()):
    """A table whose columns `left` and `right` hold an image each; no class."""
    columns = {
        column: [{"bytes": content(column, row), "path": None} for row in range(count)] for column in ("left", "right")
    }
    parquet.write_table(pyarrow.table(columns), path)


LAYOUTS = {
    layout.__name__: layout
    for layout in (
        class_folders,
        val_label,
        val_txt,
        val_map,
        devkit,
        kaggle,
        tiny_imagenet,
        hub_folder,
        json_lines,
        tar_of_folders,
        zip_of_folders,
        ilsvrc_tar,
        tars_per_class,
        tar_of_tars,
        webdataset,
        webdataset_json,
        hub_parquet,
        plain_parquet,
    )
}
# What a layout must be told besides its folder, as flags of preprocess.py.
FLAGS = {"plain_parquet": ["--columns", "picture", "label"]}
