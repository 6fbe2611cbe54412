"""Reads pictures: folders and zips of JPEG and PNG files, with class folders as labels.

A picture is decoded when its batch is asked for. The names in a zip are checked and nothing is
ever unpacked to disk.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mipack.data.arrays import readable
from mipack.data.dataset import Array, Feeds
from mipack.data.labels import class_positions, read_classes
from mipack.data.pixels import Pixels, find_layout, find_pixels
from mipack.data.reader import Request
from mipack.errors import InputError
from mipack.records import TensorSpec

SUFFIXES = (".jpg", ".jpeg", ".png")
FIELD = "pixels"
MAX_BYTES = 256 * 2**20
"""A compressed picture that unpacks to more is refused."""


class ImageSource:
    """The `Source` over pictures: `names` are relative paths, `read` gives the bytes of one."""

    def __init__(
        self,
        request: Request,
        names: Sequence[PurePosixPath],
        *,
        kind: str,
        read: Callable[[int], bytes],
    ) -> None:
        spec = _image_input(request)
        self._spec, self._read, self._root = spec, read, request.root
        self._pixels: Pixels = find_pixels(spec, request.options, request.beside)
        first = spec.shape[0] if spec.shape else None
        self.batch = first if isinstance(first, int) else None
        self._names, self.count = names, len(names)
        self.labels, labelled = _class_labels(names, request)
        self.description = (
            f"{kind}: {self.count:,} pictures for input {spec.name}",
            *self._pixels.describe(),
            *labelled,
        )

    def _place(self, index: int) -> str:
        return f"{self._root}: {self._names[index]}"

    def keys(self, indices: Sequence[int]) -> list[tuple[Hashable, int]]:
        """Pictures may meet where they come out in one size."""
        if self._pixels.crop is not None:
            return [(self._pixels.crop, 0)] * len(indices)
        shape_of = self._pixels.shape_of
        return [(shape_of(self._read(i), self._place(i)), 0) for i in indices]

    def load(self, indices: Sequence[int]) -> Feeds:
        """[N, C, H, W] or [N, H, W, C]."""
        pictures = [self._pixels.prepare(self._read(i), self._place(i)) for i in indices]
        return {self._spec.name: np.stack(pictures)}

    def title(self, index: int) -> str:
        """The picture's name."""
        return str(self._names[index])

    def content(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The preparation, then the bytes of every picture as they are in the file."""
        yield repr((self._spec.name, self._pixels)).encode()
        for index in indices:
            yield hashlib.sha256(self._read(index)).digest()


def open_images(request: Request) -> ImageSource:
    """The pictures of a folder, or one picture."""
    single = request.files == (request.root,)
    base = request.root.parent if single else request.root
    names = [PurePosixPath(path.relative_to(base).as_posix()) for path in request.files]

    def read(index: int) -> bytes:
        with readable(request.files[index]):
            return request.files[index].read_bytes()

    return ImageSource(request, names, kind="folder", read=read)


def open_zip(request: Request) -> ImageSource:
    """The pictures of one zip."""
    if len(request.files) > 1:
        raise InputError(
            f"{request.root} holds {len(request.files)} zips: "
            + ", ".join(path.name for path in request.files[:5]),
            hint="name one of them",
        )
    path = request.files[0]
    with readable(path):
        archive = zipfile.ZipFile(path)  # kept open: its directory is read once
    members = _members(path, archive)

    def read(index: int) -> bytes:
        with readable(path):
            return archive.read(members[index])

    names = [PurePosixPath(member.filename) for member in members]
    return ImageSource(request, names, kind="zip", read=read)


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The pictures of a zip by name. Raises InputError for names that leave it, for bombs, and
    where there is no picture."""
    members = []
    for member in archive.infolist():
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in str(name) or ":" in str(name):
            raise InputError(f"{path}: the name {member.filename!r} leaves the archive")
        hidden = any(part.startswith((".", "__")) for part in name.parts)
        if hidden or member.is_dir() or name.suffix.lower() not in SUFFIXES:
            continue
        if member.file_size > MAX_BYTES:
            raise InputError(
                f"{path}: {member.filename!r} is too large to be unpacked safely",
                hint=f"pictures may have {MAX_BYTES:,} bytes",
            )
        members.append(member)
    if not members:
        raise InputError(f"{path}: no pictures in it", hint=f"expected {', '.join(SUFFIXES)}")
    return sorted(members, key=lambda member: member.filename)


def _image_input(request: Request) -> TensorSpec:
    """The input that takes the pictures; all others would stay without data."""
    inputs, chosen = request.signature.inputs, request.options.inputs
    for name, field in chosen.items():
        if field != FIELD:
            raise InputError(
                f"--input {name}={field}: pictures have no such field", hint=f"it is {FIELD!r}"
            )
    named = [spec for spec in inputs if spec.name in chosen]
    fitting = named or [spec for spec in inputs if find_layout(spec)] or list(inputs[:1])
    others = [spec.name for spec in inputs if spec.name != fitting[0].name]
    if others:
        raise InputError(
            f"{request.root}: pictures cannot feed the model's input {others[0]!r}",
            hint="give .npz files with one array per input",
        )
    return fitting[0]


def _class_labels(
    names: Sequence[PurePosixPath], request: Request
) -> tuple[Array | None, tuple[str, ...]]:
    """Labels from the first folder of every name, after the folders that all share; None without
    class folders. Also a line for the user."""
    classes = request.options.classes
    known = read_classes(classes) if classes is not None else ()
    folders = [name.parts[:-1] for name in names]
    while all(folders) and len({parts[0] for parts in folders}) == 1 and folders[0][0] not in known:
        folders = [parts[1:] for parts in folders]
    if not all(folders):
        return None, ("no labels: some pictures lie outside class folders",) if any(folders) else ()
    found = [parts[0] for parts in folders]
    labels = class_positions(found, known or sorted(set(found)), place=str(request.root))
    return labels, (f"labels: {len(set(found))} class folders",)
