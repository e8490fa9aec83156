"""Ready-made ONNX files, as exporters of all kinds write them, in the one form that everything here expects.

That form: one input `input`, float32 (N, 3, H, W), N free, normalised; one output `output`, float32 (N, classes); an
opset that runtimes read; IR version 8 or newer; weights that are none of the inputs; no functions. Nothing is changed
that is in this form already, and nothing is guessed: what a file means is read from it, or tried in ONNX Runtime.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter

from ..core.cli import UserError
from ..data.transform import Transform
from . import onnx_files, onnx_graph

OPSETS = range(9, onnx_graph.READABLE[-1] + 1)
_IR_VERSION = 8
# Begins the names of what is added.
_OURS = onnx_graph.ADOPTED
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_IMAGES = {**_FLOATS, "tensor(uint8)": np.uint8}
_WANTED = "scores of each class, a floating-point tensor (N, classes), were expected"
# Operators whose floating-point numbers are places, or scores that are no longer in the order of the classes.
_NO_SCORES = ("ArgMax", "ArgMin", "TopK", "Hardmax")


class ReadyMade:
    """Somebody's ONNX file, run as they would run it."""

    def __init__(self, path: Path, transform: Transform, output: str | None = None) -> None:
        """Raises UserError if it is no image classifier for what the transform makes, naming what was expected."""
        self.path = path
        self.transform = transform
        self.model = onnx_files.read(path)
        self.changes = _write_out_functions(self.model)
        self._check_opset()
        self._run = onnx_graph.runner(str(path), path)
        self._image, self._outputs = self._find_image(), [_copied(value) for value in self.model.graph.output]
        self.index, self.output = self._find_output(output)
        self.batch = onnx_graph.shape(self._image)[:1][0] if onnx_graph.shape(self._image) else None
        self.dtype = _dtype(self._image)
        self.channels_last, self.raw_shape = self._try_layouts()
        self.num_classes = self._count_classes()

    @property
    def outputs(self) -> str:
        """All outputs in words."""
        return "; ".join(map(describe, self._outputs))

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Scores of each image by itself: float32 (N, 3, H, W), normalised -> float32 (N, classes)."""
        size = self.batch or 1
        found = [self._raw(np.repeat(images[i : i + 1], size, axis=0), self.channels_last) for i in range(len(images))]
        return np.concatenate([one[:1].reshape(1, -1).astype(np.float32) for one in found])

    def _raw(self, images: np.ndarray, channels_last: bool) -> np.ndarray:
        if self.dtype == np.uint8:
            shape = (1, 3, 1, 1)
            mean, std = np.reshape(self.transform.mean, shape), np.reshape(self.transform.std, shape)
            images = np.rint((images * std + mean) * 255).clip(0, 255)
        if channels_last:
            images = images.transpose(0, 2, 3, 1)
        return self._run(np.ascontiguousarray(images, self.dtype))[self.index]

    def _check_opset(self) -> None:
        found = onnx_graph.opset(self.model)
        if found not in onnx_graph.READABLE:
            first, last = onnx_graph.READABLE[0], onnx_graph.READABLE[-1]
            raise UserError(f"{self.path}: has opset {found}; {first} to {last} are supported, export it again")
        for node in onnx_graph.nodes(self.model.graph):
            if onnx_graph.is_training(node, found):
                raise UserError(
                    f"{self.path}: its {node.op_type} {node.name or node.output[0]!r} is in training mode, so that "
                    "images of a batch influence each other; export the model after model.eval()"
                )

    def _find_image(self) -> onnx.ValueInfoProto:
        found = onnx_graph.inputs(self.model)
        listed = ", ".join(describe(value) for value in found) or "none"
        if len(found) != 1 or describe_type(found[0]) not in _IMAGES or len(onnx_graph.shape(found[0])) not in (0, 4):
            raise UserError(
                f"{self.path}: its inputs are: {listed}; an image classifier with one was expected, images as a tensor "
                "(N, 3, H, W) or (N, H, W, 3) of float32, float16, double or uint8"
            )
        return found[0]

    def _find_output(self, wanted: str | None) -> tuple[int, onnx.ValueInfoProto]:
        found, listed = self._outputs, self.outputs
        names = [value.name for value in found]
        if wanted is None and len(found) != 1:
            raise UserError(
                f"{self.path}: has {len(found)} outputs: {listed}; name the one with the scores of each class: "
                "models.<name>.onnx.output (--output_name)"
            )
        if wanted is not None and wanted not in names:
            raise UserError(f"{self.path}: has no output {wanted!r}; choose one of these: {listed}")
        index = 0 if wanted is None else names.index(wanted)
        if describe_type(found[index]) not in _FLOATS:
            raise UserError(
                f"{self.path}: its output is {describe(found[index])}; {_WANTED}: export it without what turns scores "
                "into classes or other things"
            )
        last = onnx_graph.last_operation(self.model.graph, names[index])
        if last is not None and last.op_type in _NO_SCORES:
            raise UserError(
                f"{self.path}: its output {describe(found[index])} ends in {last.op_type}; {_WANTED}, in the order of "
                "the classes: export it without that"
            )
        return index, found[index]

    def _try_layouts(self) -> tuple[bool, tuple[int, ...]]:
        """Whether the channels of images are the last axis, and the shape of its output for one batch."""
        channels, height, width = self.transform.shape
        have = onnx_graph.shape(self._image) or (None,) * 4
        fitting = [
            channels_last
            for channels_last, size in ((False, (channels, height, width)), (True, (height, width, channels)))
            if all(stated in (None, wanted) for stated, wanted in zip(have[1:], size))
        ]
        if not fitting:
            raise UserError(
                f"{self.path}: its input has shape {have} (None = free) but {(None, *self.transform.shape)} was "
                "expected; export it with a dynamic batch dimension and this model's image size, or name the transform "
                "of this model (models.<name>.transform)"
            )
        images = np.zeros((self.batch or 1, *self.transform.shape), np.float32)
        problems = []
        for channels_last in fitting:  # with free axes both may fit, but convolutions run one way only
            try:
                return channels_last, self._raw(images, channels_last).shape
            except UserError as error:
                problems.append(error)
        raise problems[0]

    def _count_classes(self) -> int:
        shape, size = self.raw_shape, self.batch or 1
        beside = [axis for axis in shape[1:] if axis != 1]
        if len(shape) < 2 or shape[0] != size or len(beside) > 1 or 0 in shape:
            raise UserError(
                f"{self.path}: its output has shape {shape} for {'one image' if size == 1 else f'{size} images'}; "
                f"({size}, classes) was expected" + _others(self.model)
            )
        return beside[0] if beside else 1


def describe(value: onnx.ValueInfoProto) -> str:
    """An input or output in words: name, type, shape with names of free axes."""
    kind = describe_type(value)
    if kind.startswith("tensor("):
        axes = value.type.tensor_type.shape.dim
        sizes = (axis.dim_param or (str(axis.dim_value) if axis.dim_value > 0 else "?") for axis in axes)
        return f"{value.name} {kind[len('tensor(') : -1]} ({', '.join(sizes)})"
    return f"{value.name} ({kind})"


def describe_type(value: onnx.ValueInfoProto) -> str:
    """The type of an input or output as ONNX Runtime writes it; of other things than tensors in one word."""
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return kind.removesuffix("_type")
    name = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"tensor({name})"


def adopt(theirs: ReadyMade, onnx_path: Path) -> list[str]:
    """Write somebody's file to `onnx_path` in our form; return what was changed, in words for the log.

    Raises UserError that names the operator if the opset cannot be raised.
    """
    model, path = theirs.model, theirs.path
    changes = [*theirs.changes, *_rewrite(model, path)]
    changes += _choose_output(model, theirs.output.name)
    changes += _open_axes(model, theirs)
    changes += _adapt_input(model, theirs)
    changes += _adapt_output(model, theirs)
    onnx_graph.rename_ends(model, theirs.num_classes)
    onnx_files.save(model, onnx_path, path.parent)
    try:
        onnx.checker.check_model(str(onnx_path))
    except onnx.checker.ValidationError as error:
        raise UserError(f"{path}: cannot be put into this project's form ({error}); export it again") from None
    return changes


def _write_out_functions(model: onnx.ModelProto) -> list[str]:
    """Put the nodes of each function where it is called."""
    if not model.functions:
        return []
    domains = {function.domain for function in model.functions}
    model.CopyFrom(onnx.inliner.inline_local_functions(model, convert_version=True))
    kept = [entry for entry in model.opset_import if entry.domain not in domains]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return ["functions written out"]


def _rewrite(model: onnx.ModelProto, path: Path) -> list[str]:
    """Opset, weights among the inputs and IR version: what changes nothing of what is computed."""
    changes = []
    found = onnx_graph.opset(model)
    if found not in OPSETS:
        try:
            model.CopyFrom(onnx.version_converter.convert_version(model, OPSETS[0]))
        except Exception as error:  # the converter's own exceptions share no narrower base
            operator = re.search(r"No Adapter.* for (\w+)", str(error))
            named = operator[1] if operator else None
            why = f"the operator {named}" if named else " ".join(str(error).split())
            raise UserError(
                f"{path}: has opset {found}, which onnx's version converter cannot raise to {OPSETS[0]} because of "
                f"{why}; export it with a newer opset"
            ) from None
        changes.append(f"opset {found} raised to {OPSETS[0]}")
    if model.ir_version < _IR_VERSION:
        changes.append(f"IR version {model.ir_version} raised to {_IR_VERSION}")
        model.ir_version = _IR_VERSION
    if len(model.graph.input) > len(onnx_graph.inputs(model)):
        onnx_graph.fix_weights(model)
        changes.append("weights taken from among the inputs")
    return changes


def _choose_output(model: onnx.ModelProto, name: str) -> list[str]:
    """Leave only the output `name`, and only what it is computed from."""
    graph = model.graph
    others = [value.name for value in graph.output if value.name != name]
    if not others:
        return []
    needed, kept = {name}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input) | {read for inner in onnx_graph.inner_nodes(node) for read in inner.input}
    output = next(value for value in graph.output if value.name == name)
    nodes, outputs = [_copied(node) for node in reversed(kept)], [_copied(output)]
    weights = [_copied(tensor) for tensor in graph.initializer if tensor.name in needed]
    for field, values in ((graph.node, nodes), (graph.output, outputs), (graph.initializer, weights)):
        del field[:]
        field.extend(values)
    made = {made for node in graph.node for made in node.output}
    for value in [value for value in graph.value_info if value.name not in made]:
        graph.value_info.remove(value)
    return [f"output {name} taken, not {', '.join(others)}"]


def _copied(message: object) -> object:
    copied = type(message)()
    copied.CopyFrom(message)  # type: ignore[attr-defined]
    return copied


def _open_axes(model: onnx.ModelProto, theirs: ReadyMade) -> list[str]:
    """Free the batch, and set the size of images."""
    image = onnx_graph.inputs(model)[0]
    channels, height, width = theirs.transform.shape
    size = (height, width, channels) if theirs.channels_last else (channels, height, width)
    have = onnx_graph.shape(image)
    changes = []
    if theirs.batch:
        changes.append(f"batch of {theirs.batch} freed")
        _free_reshapes(model, theirs.batch)
    if have[1:] != size:
        changes.append(f"image size set to {height}x{width}")
    if changes:
        batch = "batch" if theirs.batch or not have else image.type.tensor_type.shape.dim[0].dim_param or "batch"
        kind = image.type.tensor_type.elem_type
        image.CopyFrom(onnx.helper.make_tensor_value_info(image.name, kind, [batch, *size]))
        del model.graph.value_info[:]  # shapes that hold no longer
    return changes


def _free_reshapes(model: onnx.ModelProto, batch: int) -> None:
    """Let reshapes to a size that begins with the fixed batch take any, as exporters write them if told of one batch.

    Whether that is what they mean, the proof shows: it compares with the file as it was given.
    """
    graph = model.graph
    known = {tensor.name: tensor for tensor in graph.initializer if not onnx_files.is_outside(tensor)}
    known |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    for place, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in known or node.input[1] not in known:
            continue
        sizes = onnx.numpy_helper.to_array(known[node.input[1]]).tolist()
        zero_is_zero = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
        if len(sizes) > 1 and sizes[0] == batch and not (zero_is_zero and -1 in sizes):
            sizes[0] = 0 if -1 in sizes else -1
            name = f"{_OURS}sizes{place}"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes, np.int64), name))
            node.input[1] = name


def _adapt_input(model: onnx.ModelProto, theirs: ReadyMade) -> list[str]:
    """Begin with what turns normalised float32 (N, 3, H, W) into what the graph takes."""
    image = onnx_graph.inputs(model)[0]
    kind = image.type.tensor_type.elem_type
    if theirs.dtype == np.float32 and not theirs.channels_last:
        return []
    nodes, changes, now = [], [], f"{_OURS}image"

    def then(operator: str, output: str, *constants: np.ndarray, **attributes: object) -> None:
        nonlocal now
        names = [f"{output}/{place}" for place in range(len(constants))]
        for name, value in zip(names, constants):
            model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
        nodes.append(onnx.helper.make_node(operator, [now, *names], [output], name=output, **attributes))
        now = output

    if theirs.dtype == np.uint8:  # 0.5: a cast cuts off
        shape = (1, 3, 1, 1)
        mean = np.reshape(theirs.transform.mean, shape).astype(np.float64)
        std = np.reshape(theirs.transform.std, shape).astype(np.float64)
        then("Mul", f"{_OURS}scaled", std * 255)
        then("Add", f"{_OURS}moved", mean * 255 + 0.5)
        then("Max", f"{_OURS}from_0", np.array(0.0))
        then("Min", f"{_OURS}to_255", np.array(255.0))
    if theirs.dtype != np.float32:
        then("Cast", onnx_graph.AS_BYTES if theirs.dtype == np.uint8 else f"{_OURS}cast", to=kind)
        changes.append(f"{theirs.dtype.__name__} images made of float32 ones")
    if theirs.channels_last:
        then("Transpose", f"{_OURS}channels_last", perm=[0, 2, 3, 1])
        changes.append("(N, H, W, 3) made of (N, 3, H, W)")
    nodes[-1].output[0] = image.name
    batch = image.type.tensor_type.shape.dim[0].dim_param or "batch"
    taken = onnx.helper.make_tensor_value_info(
        f"{_OURS}image", onnx.TensorProto.FLOAT, [batch, *theirs.transform.shape]
    )
    rest = [_copied(node) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    image.CopyFrom(taken)
    return changes


def _adapt_output(model: onnx.ModelProto, theirs: ReadyMade) -> list[str]:
    """End with what turns the graph's output into float32 (N, classes)."""
    output, changes = model.graph.output[0], []
    now = output.name
    if len(theirs.raw_shape) > 2:
        model.graph.node.append(onnx.helper.make_node("Flatten", [now], [f"{_OURS}flat"], axis=1))
        now = f"{_OURS}flat"
        changes.append(f"axes of 1 dropped from the output {theirs.raw_shape}")
    if describe_type(output) != "tensor(float)":
        model.graph.node.append(onnx.helper.make_node("Cast", [now], [f"{_OURS}scores"], to=onnx.TensorProto.FLOAT))
        now = f"{_OURS}scores"
        changes.append(f"{describe_type(output)} output cast to float32")
    output.name = now
    return changes


def _dtype(image: onnx.ValueInfoProto) -> type:
    return _IMAGES[describe_type(image)]


def _others(model: onnx.ModelProto) -> str:
    others = [describe(value) for value in model.graph.output]
    return f" (its outputs: {'; '.join(others)})" if len(others) > 1 else ""
