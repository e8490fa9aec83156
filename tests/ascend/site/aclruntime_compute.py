"""What an emulated NPU computes with: ONNX Runtime, here or in another interpreter.

An NPU host's Python has NumPy and no ONNX Runtime. Where that is so, this file runs as a worker under
an interpreter that has it, and the two talk over pipes in .npz messages preceded by their length.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time

import numpy as np


def open_model(model: bytes, python: str):
    """A model that executes: in this process where it can, else in a worker of the interpreter `python`."""
    try:
        return Local(model)
    except ImportError:
        return Remote(model, python)


class Local:
    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # tests share few cores
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [node.name for node in self._session.get_inputs()]

    def execute(self, feeds: list[np.ndarray], loop: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Run `loop` times. Returns the last outputs and float64 (loop, 2): start and end in ms."""
        spans = []
        for _ in range(loop):
            start = time.perf_counter()
            outputs = self._session.run(None, dict(zip(self._names, feeds)))
            spans.append((1e3 * start, 1e3 * time.perf_counter()))
        return outputs, np.array(spans)

    def close(self) -> None:
        self._session = None


class Remote:
    def __init__(self, model: bytes, python: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [python, os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        _send(self._process.stdin, [np.frombuffer(model, np.uint8)])

    def execute(self, feeds: list[np.ndarray], loop: int) -> tuple[list[np.ndarray], np.ndarray]:
        _send(self._process.stdin, [np.array(loop), *feeds])
        answer = _receive(self._process.stdout)
        if not answer:
            raise RuntimeError(f"emulator: the worker {self._process.args} died; its error is above")
        return answer[1:], answer[0]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _send(stream, arrays: list[np.ndarray]) -> None:
    message = io.BytesIO()
    np.savez(message, *arrays)
    stream.write(len(message.getvalue()).to_bytes(8, "little") + message.getvalue())
    stream.flush()


def _receive(stream) -> list[np.ndarray]:
    """The arrays of one message; an empty list at the end of the stream."""
    size = stream.read(8)
    if not size:
        return []
    with np.load(io.BytesIO(stream.read(int.from_bytes(size, "little"))), allow_pickle=False) as message:
        return [message[f"arr_{index}"] for index in range(len(message.files))]


if __name__ == "__main__":
    model = Local(_receive(sys.stdin.buffer)[0].tobytes())
    while request := _receive(sys.stdin.buffer):
        outputs, spans = model.execute(request[1:], int(request[0]))
        _send(sys.stdout.buffer, [spans, *outputs])
