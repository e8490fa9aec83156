"""Plain .npy files that are written and read row by row: an array may be larger than the memory.

NumPy only: the commands that run on the target import this under Python 3.9.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np


class Header(NamedTuple):
    """What an array file announces. offset: bytes before its data."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    fortran_order: bool = False


def header_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What `np.save` writes before the rows of a C-contiguous array."""
    stream = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


def read_header(stream: BinaryIO) -> Header:
    """The header of the array file that `stream` is at the start of; its rows come next.

    Raises ValueError unless it is a whole, plain array. Archives and pickles are none.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read(stream)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # untrusted bytes: a damaged header can raise anything at all
        raise ValueError(str(error) or type(error).__name__) from None
    if dtype.hasobject:
        raise ValueError("pickled objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    offset = stream.tell()
    have, need = os.fstat(stream.fileno()).st_size - offset, math.prod(shape) * dtype.itemsize
    if have < need:
        raise ValueError(f"cut off: {have} of {need} bytes")
    return Header(dtype, shape, offset, fortran_order)


def read_rows(stream: BinaryIO, header: Header, at_most: int) -> Iterator[np.ndarray]:
    """The rows that follow in `stream`, `at_most` at a time: arrays (n, ...)."""
    row_shape = header.shape[1:]
    if header.fortran_order:  # its rows lie all over it
        whole = np.fromfile(stream, header.dtype, math.prod(header.shape)).reshape(header.shape, order="F")
        yield from (whole[start : start + at_most] for start in range(0, len(whole), at_most))
        return
    for start in range(0, header.shape[0], at_most):
        rows = min(at_most, header.shape[0] - start)
        yield np.fromfile(stream, header.dtype, rows * math.prod(row_shape)).reshape(rows, *row_shape)
