"""safetensors files that are larger than memory: made with their final size, then filled piece by
piece.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of a JSON header,
the header, the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "bool": "BOOL"}


def create_safetensors(
    path: Path, tensors: Mapping[str, tuple[DTypeLike, Sequence[int]]]
) -> dict[str, NDArray[Any]]:
    """Writes a file of zeros and maps its tensors for writing. tensors: name -> (dtype, shape).

    Raises KeyError for a dtype other than float16, float32, int64 and bool.
    """
    header: dict[str, dict[str, object]] = {}
    starts: dict[str, int] = {}
    offset = 0
    # Wide types first, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: (-np.dtype(tensors[name][0]).itemsize, name))
    for name in order:
        dtype, shape = np.dtype(tensors[name][0]), list(tensors[name][1])
        size = dtype.itemsize * int(np.prod(shape))
        header[name] = {
            "dtype": _NAMES[dtype.name],
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        starts[name] = offset
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + offset)
    base = 8 + len(encoded)
    return {
        name: _map(path, base + starts[name], tuple(tensors[name][1]), np.dtype(tensors[name][0]))
        for name in order
    }


def _map(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    # An empty tensor cannot be mapped, and nothing will be written to it.
    return (
        np.memmap(path, dtype=dtype, mode="r+", offset=offset, shape=shape)
        if np.prod(shape)
        else np.empty(shape, dtype)
    )
