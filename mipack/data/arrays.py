"""Reads .npz and .npy files, and feeds that are already in memory."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mipack.data.checks import Header
from mipack.data.dataset import Array
from mipack.data.reader import Request
from mipack.data.rows import ArraySource, Item
from mipack.errors import InputError

DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,  # an encrypted zip
    MemoryError,  # a header that claims too much
    zipfile.BadZipFile,
    zlib.error,
)


def open_arrays(request: Request) -> ArraySource:
    """Every .npz feeds the inputs it names; a .npy feeds the model's only input."""
    items = [_item(path, request) for path in request.files]
    return ArraySource(
        items,
        request.signature,
        options=request.options,
        kind="array files",
    )


def _item(path: Path, request: Request) -> Item:
    if path.suffix.lower() == ".npz":
        return NpzFile(path)
    if len(request.signature.inputs) > 1:
        names = ", ".join(spec.name for spec in request.signature.inputs)
        raise InputError(
            f"{path}: a .npy feeds one input, the model has {len(request.signature.inputs)}",
            hint=f"save a .npz with the arrays {names}",
        )
    return NpyFile(path)


@dataclass(frozen=True, slots=True)
class NpzFile:
    """An archive of arrays; pickles in it are never loaded."""

    path: Path

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def headers(self) -> dict[str, Header]:
        """Only the first bytes of each member are read."""
        with readable(self.path), zipfile.ZipFile(self.path) as archive:
            headers = {}
            for member in archive.namelist():
                with archive.open(member) as stream:
                    headers[member.removesuffix(".npy")] = _header(stream)
            return headers

    def load(self, names: Sequence[str]) -> dict[str, Array]:
        """Whole arrays: a compressed member cannot be read in part."""
        with readable(self.path), np.load(self.path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}

    def content(self) -> bytes:
        """sha256 of the file."""
        return digest_file(self.path)


@dataclass(frozen=True, slots=True)
class NpyFile:
    """One array, mapped rather than read, under the name of its file."""

    path: Path

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def headers(self) -> dict[str, Header]:
        """Only the first bytes of the file are read."""
        with readable(self.path), self.path.open("rb") as stream:
            return {self.path.stem: _header(stream)}

    def load(self, names: Sequence[str]) -> dict[str, Array]:
        """The array as a view of the file."""
        with readable(self.path):
            return dict.fromkeys(names, np.load(self.path, mmap_mode="r", allow_pickle=False))

    def content(self) -> bytes:
        """sha256 of the file."""
        return digest_file(self.path)


@dataclass(frozen=True, slots=True)
class Feed:
    """Named arrays in memory."""

    place: str
    arrays: Mapping[str, Array]

    def headers(self) -> dict[str, Header]:
        """Shapes and types as they are."""
        return {name: Header(array.shape, array.dtype) for name, array in self.arrays.items()}

    def load(self, names: Sequence[str]) -> dict[str, Array]:
        """The arrays themselves."""
        return {name: self.arrays[name] for name in names}

    def content(self) -> bytes:
        """sha256 over names, types, shapes and values."""
        state = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            state.update(f"{name} {array.dtype.name} {array.shape} ".encode() + array.tobytes())
        return state.digest()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A damaged file becomes an InputError that names it."""
    try:
        yield
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: the file cannot be read ({reason or type(error).__name__})",
            hint="is it whole, and of the kind that its name says?",
        ) from error


def _header(stream: IO[bytes]) -> Header:
    """The header of a .npy stream. Raises ValueError where it is none."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format")
    shape, _, dtype = read(stream)
    return Header(shape, dtype)


def digest_file(path: Path) -> bytes:
    """sha256 of a file's bytes."""
    with readable(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
