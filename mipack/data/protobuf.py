"""Reads ONNX test data: folders `test_data_set_*` with `input_0.pb`, `input_1.pb`, ..."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mipack.data.arrays import digest_file
from mipack.data.checks import Header
from mipack.data.dataset import Array
from mipack.data.reader import Request
from mipack.data.rows import ArraySource
from mipack.errors import InputError

if TYPE_CHECKING:
    from onnx import TensorProto

_INPUT = re.compile(r"input_(\d+)\.pb")


def open_protobuf(request: Request) -> ArraySource:
    """One set of inputs per folder; `input_K.pb` feeds the model's input number K. A file that is
    named itself feeds the model's only input."""
    names = [spec.name for spec in request.signature.inputs]
    if request.files == (request.root,):
        sets = [TensorFiles(request.root, ((names[0], request.root),))]
    else:
        files = sorted(filter(_number, request.files), key=_number_in_folder)
        sets = [
            TensorFiles(folder, _name(folder, list(members), names))
            for folder, members in groupby(files, key=lambda path: path.parent)
        ]
    if not sets:
        raise InputError(f"{request.root}: no input_*.pb in it", hint="name them input_0.pb, ...")
    return ArraySource(sets, request.signature, options=request.options, kind="ONNX test data sets")


def _number(path: Path) -> re.Match[str] | None:
    return _INPUT.fullmatch(path.name)


def _number_in_folder(path: Path) -> tuple[str, int, str, int]:
    match, folder = _number(path), re.fullmatch(r"(.*?)(\d*)", path.parent.name)
    count = int(folder[2]) if folder and folder[2] else -1
    return str(path.parent.parent), count, str(path.parent), int(match[1]) if match else -1


def _name(
    folder: Path, files: Sequence[Path], names: Sequence[str]
) -> tuple[tuple[str, Path], ...]:
    """Files by the input they feed."""
    numbers = [int(path.stem.removeprefix("input_")) for path in files]
    if max(numbers) >= len(names):
        raise InputError(
            f"{folder}: input_{max(numbers)}.pb has no input to feed",
            hint=f"the model's inputs are {', '.join(names)}",
        )
    return tuple((names[number], path) for number, path in zip(numbers, files, strict=True))


@dataclass(frozen=True, slots=True)
class TensorFiles:
    """One serialized tensor per input."""

    folder: Path
    files: tuple[tuple[str, Path], ...]

    @property
    def place(self) -> str:
        """The folder (or the only file)."""
        return str(self.folder)

    def headers(self) -> dict[str, Header]:
        """The files are small: they are read to know their shapes."""
        arrays = self.load([name for name, _ in self.files])
        return {name: Header(array.shape, array.dtype) for name, array in arrays.items()}

    def load(self, names: Sequence[str]) -> dict[str, Array]:
        """The tensors as arrays."""
        return {name: _read(path) for name, path in self.files if name in names}

    def content(self) -> bytes:
        """sha256 over the files."""
        parts = (name.encode() + digest_file(path) for name, path in self.files)
        return hashlib.sha256(b"".join(parts)).digest()


def _read(path: Path) -> Array:
    """The tensor in a file. Raises InputError where it is damaged or keeps its data elsewhere."""
    from google.protobuf.message import DecodeError
    from onnx import TensorProto, numpy_helper

    try:
        tensor = TensorProto.FromString(path.read_bytes())
        if not _inline(tensor):
            raise InputError(f"{path}: its data lies in another file", hint="save it inline")
        return numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            f"{path}: not a whole ONNX tensor", hint="each input_K.pb is one serialized TensorProto"
        ) from error


def _inline(tensor: TensorProto) -> bool:
    from onnx import TensorProto as Proto

    return tensor.data_location != Proto.EXTERNAL
