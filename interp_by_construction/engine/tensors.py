"""Files that are larger than memory: made in full size, then filled piece by piece.

Their space is allocated before they are mapped. Otherwise a full disk would end the process with a
signal (SIGBUS) when a mapped page is written.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of a JSON header,
the header, the tensors' bytes.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from interp_by_construction.engine.disk import disk_errors

_NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "bool": "BOOL"}


def create_safetensors(
    path: Path, tensors: Mapping[str, tuple[DTypeLike, Sequence[int]]]
) -> dict[str, NDArray[Any]]:
    """Writes a file of zeros and maps its tensors for writing. tensors: name -> (dtype, shape).

    Raises KeyError for a dtype other than float16, float32, int64 and bool, and StoreError where
    there is no space.
    """
    header: dict[str, Any] = {}
    offset = 0
    # Wide types first, so that every tensor is aligned.
    for name in sorted(tensors, key=lambda name: (-np.dtype(tensors[name][0]).itemsize, name)):
        dtype, shape = np.dtype(tensors[name][0]), list(tensors[name][1])
        end = offset + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _NAMES[dtype.name], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    base = 8 + len(encoded)
    _allocate(path, len(encoded).to_bytes(8, "little") + encoded, offset)
    mapped: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        kind, sizes = np.dtype(tensors[name][0]), tuple(entry["shape"])
        start = base + entry["data_offsets"][0]
        # An empty tensor cannot be mapped, and nothing will be written to it.
        used = math.prod(sizes) > 0
        mapped[name] = np.memmap(path, kind, "r+", start, sizes) if used else np.empty(sizes, kind)
    return mapped


def create_npy(path: Path, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
    """Writes a .npy file of zeros and maps it for writing. Raises StoreError where there is no
    space."""
    kind, sizes = np.dtype(dtype), tuple(shape)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {
            "descr": np.lib.format.dtype_to_descr(kind),
            "fortran_order": False,
            "shape": sizes,
        },
    )
    _allocate(path, header.getvalue(), kind.itemsize * math.prod(sizes))
    if not math.prod(sizes):
        return np.empty(sizes, kind)
    return np.memmap(path, kind, "r+", len(header.getvalue()), sizes)


def _allocate(path: Path, header: bytes, n_bytes: int) -> None:
    """A file of a header and as many zeros."""
    with disk_errors(path), path.open("wb") as file:
        file.write(header)
        file.flush()
        if n_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), len(header), n_bytes)
        else:
            # macOS has no such call: a full disk is noticed late there.
            file.truncate(len(header) + n_bytes)
