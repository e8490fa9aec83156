"""ONNX files on the disk: read with the weights that lie beside them, checked, and written again.

An ONNX file holds at most 2 GB; larger ones, and those of torch's newer exporter, keep weights in other files of the
same folder ("external data"). Here a model is in memory with all its weights, or, if they are too many for one file,
with the large ones still outside: then it belongs to the folder that it was read from.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from ..core import identity
from ..core.cli import UserError

if TYPE_CHECKING:
    import onnx

# What protobuf can write in one piece, less what a graph without its weights may take.
LIMIT_BYTES = (1 << 31) - (1 << 26)
# Of weights beside a file, as `save` writes them: model.onnx.data beside model.onnx.
DATA = ".onnx.data"
SMALL_BYTES = 1 << 16
_ALIGNED_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 24


def own_data(path: Path) -> list[str]:
    """The suffix of the data that `save` wrote beside a file; nothing if it holds its weights itself."""
    return [DATA] if path.with_suffix(DATA).is_file() else []


def locations(path: Path, name: str | os.PathLike) -> list[str]:
    """The files with weights of an ONNX file, as paths from its folder. name: what errors call it.

    Raises UserError if one leads outside that folder.
    """
    if not _mentions_data(path):  # a plan asks this of every file, and most need no parser
        return []
    found = sorted({location_of(tensor) for tensor in tensors(parse(path)) if is_outside(tensor)})
    for location in found:
        inside = PurePosixPath(location)
        if not location or inside.is_absolute() or ".." in inside.parts or re.search(r"[\0\\\\]", location):
            raise UserError(
                f"{name}: keeps weights in {location!r}, which leads outside its folder; save it with its weights "
                "beside it"
            )
    return found


def companions(path: str | os.PathLike) -> list[Path]:
    """The files that hold weights of an ONNX file, in the order of their names.

    Raises UserError if one is missing, or is not a plain file inside the ONNX file's own folder.
    """
    path = Path(path)
    folder = Path(os.path.realpath(path.parent))
    found = []
    for location in locations(path, path):
        file = path.parent / location
        if not file.exists():
            raise UserError(f"{file}: not found; {path.name} keeps weights there, put it beside it")
        if Path(os.path.realpath(file)) != folder / location or not file.is_file():
            raise UserError(
                f"{file}: {path.name} keeps weights there, and it is a link or no file; copy what it leads to in its "
                "place"
            )
        found.append(file)
    return found


def known(path: Path) -> identity.Known:
    """Which file it is: what its sidecar says, else its content and that of the files with its weights."""
    stated = identity.known(path)
    beside = companions(path) if "id" not in stated.facts else []
    if not beside:
        return stated
    made = identity.state("content", identity.contents(path, [beside_name(path, file) for file in beside]))
    return identity.Known(made["id"], identity.start(made["id"], path), stated.facts)


def beside_name(path: Path, file: Path) -> str:
    """What a sidecar calls a file that belongs to the ONNX file `path` and is not named after it."""
    return identity.BESIDE + file.relative_to(path.parent).as_posix()


def _mentions_data(path: Path) -> bool:
    """Whether the bytes of a file hold the key under which a tensor says where its data is."""
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"location") >= 0
    except ValueError:  # an empty file
        return False


def parse(path: Path) -> onnx.ModelProto:
    """The file alone, weights outside left there. Raises UserError if it is none."""
    import onnx

    if not path.exists():
        raise UserError(f"{path}: no such ONNX file; export it with scripts/export.py, or check the path")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors share no narrower base
        raise UserError(f"{path}: is not a valid ONNX file ({error}); export or fetch it again") from None
    return model


def read(path: Path) -> onnx.ModelProto:
    """A checked ONNX file with its weights, those that are too many for one file left outside.

    Raises UserError that names the file and what is wrong.
    """
    import onnx

    model = parse(path)
    beside = companions(path)
    try:
        _check(model, path)
        too_large = sum(map(_bytes_of, {*beside, path})) > LIMIT_BYTES
        for tensor in tensors(model):
            if is_outside(tensor) and (not too_large or _length(tensor, path.parent) <= SMALL_BYTES):
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
    except Exception as error:  # the checker's errors share no narrower base
        raise UserError(f"{path}: is not a valid ONNX file ({error}); export or fetch it again") from None
    return model


def _check(model: onnx.ModelProto, path: Path) -> None:
    """Let onnx check a file, whose outputs may lack a shape: exporters that cannot infer it leave it out."""
    import onnx

    if all(_has_shape(value) for value in model.graph.output):
        onnx.checker.check_model(str(path))
        return
    completed = onnx.ModelProto()
    completed.CopyFrom(model)
    graph = completed.graph
    for value in graph.output:
        if not _has_shape(value):
            value.type.tensor_type.shape.SetInParent()
    # of weights that are not in the file the checker looks for the file; whether they are there is known already
    inside = [tensor for tensor in graph.initializer if not is_outside(tensor)]
    listed = {value.name for value in graph.input} | {tensor.name for tensor in inside}
    outside = [tensor for tensor in graph.initializer if tensor.name not in listed]
    graph.input.extend(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in outside)
    del graph.initializer[:]
    graph.initializer.extend(inside)
    onnx.checker.check_model(completed)


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    return not value.type.HasField("tensor_type") or value.type.tensor_type.HasField("shape")


def save(model: onnx.ModelProto, path: Path, folder: Path) -> None:
    """Write a model as one file, or what is too large for that with all its large weights in one file beside it.

    folder: where its weights outside are.
    """
    import onnx

    if not is_large(model) and _bytes_inside(model) <= LIMIT_BYTES:
        onnx.save(model, path)
        return
    written = onnx.ModelProto()
    written.CopyFrom(model)
    with open(path.with_suffix(DATA), "wb") as target:
        for tensor in tensors(written):
            if not is_outside(tensor) and len(tensor.raw_data) <= SMALL_BYTES:
                continue
            offset = -(-target.tell() // _ALIGNED_BYTES) * _ALIGNED_BYTES
            target.seek(offset)
            if is_outside(tensor):
                with open(folder / location_of(tensor), "rb") as source:
                    source.seek(_offset(tensor))
                    _copy(source, target, _length(tensor, folder))
            else:
                target.write(tensor.raw_data)
            _point(tensor, path.with_suffix(DATA).name, offset, target.tell() - offset)
    onnx.save(written, path)


def rewrite(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph that was changed to the file that it was read from; its weights outside stay."""
    import onnx

    onnx.save(model, path)


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Say that a tensor's values are in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


@contextlib.contextmanager
def in_place(model: onnx.ModelProto, folder: Path, scratch: Path | None = None) -> Iterator[bytes | str]:
    """What a runtime can open a model by: its bytes, or, if weights are outside, a file beside them that goes away.

    folder: where its weights outside are. scratch: a folder to use in its place, which gets the same weights.
    """
    import onnx

    outside = {location_of(tensor) for tensor in tensors(model) if is_outside(tensor)}
    if not outside:
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=scratch or folder) as place:
        for location in outside:
            copy = Path(place, location)
            copy.parent.mkdir(parents=True, exist_ok=True)
            same(folder / location, copy)
        path = Path(place, "model.onnx")
        onnx.save(model, path)
        yield str(path)


def same(source: Path, target: Path) -> None:
    """Put a file that nobody will write to under a second name, or copy it if that is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that a model states: weights and constants, in branches and functions too."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        yield from _tensors_of(function)


def _tensors_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _tensors_of(inner)


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values are in another file."""
    return tensor.data_location == tensor.EXTERNAL


def is_large(model: onnx.ModelProto) -> bool:
    """Whether weights are outside, because one file cannot hold them."""
    return any(map(is_outside, tensors(model)))


def location_of(tensor: onnx.TensorProto) -> str:
    """The file that a tensor's values are in, as the ONNX file names it."""
    return _stated(tensor).get("location", "")


def _stated(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _offset(tensor: onnx.TensorProto) -> int:
    return int(_stated(tensor).get("offset", "0"))


def _length(tensor: onnx.TensorProto, folder: Path) -> int:
    stated = _stated(tensor).get("length")
    return _bytes_of(folder / location_of(tensor)) - _offset(tensor) if stated is None else int(stated)


def _bytes_of(path: Path) -> int:
    return path.stat().st_size


def _bytes_inside(model: onnx.ModelProto) -> int:
    """What the weights in memory take; the graph itself is small."""
    return sum(len(tensor.raw_data) if tensor.raw_data else tensor.ByteSize() for tensor in tensors(model))


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length:
        block = source.read(min(length, _BLOCK_BYTES))
        if not block:
            raise UserError(f"{source.name}: ends before the weights that are stated to be in it; fetch it again")
        target.write(block)
        length -= len(block)
