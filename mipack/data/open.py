"""From a path to a `Dataset`: which reader, what to leave out, which samples.

Adding a reader is one entry in `READERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mipack.data import images, tables
from mipack.data.arrays import Feed, open_arrays
from mipack.data.dataset import Array, Dataset, ReadOptions, Source
from mipack.data.labels import read_label_file
from mipack.data.protobuf import open_protobuf
from mipack.data.reader import Reader, Request
from mipack.data.rows import ArraySource
from mipack.data.text import MASK, open_text
from mipack.errors import InputError
from mipack.records import Signature

_PICTURES = ("classes", "mean", "std", "resize")
_TEXTS = ("tokenizer", "text_column", "label_column", "classes")

READERS: tuple[Reader, ...] = (
    Reader("arrays", (".npz", ".npy"), open_arrays, ("label_column",)),
    Reader("ONNX test data", (".pb",), open_protobuf),
    Reader("pictures", images.SUFFIXES, images.open_images, _PICTURES),
    Reader("zipped pictures", (".zip",), images.open_zip, _PICTURES),
    Reader("lines of text", (".txt",), open_text(tables.read_lines), ("tokenizer",)),
    Reader("tables", (".tsv", ".csv"), open_text(tables.read_table), _TEXTS),
    Reader("JSON lines", (".jsonl",), open_text(tables.read_json_lines), _TEXTS),
)

_DEPTH = 3
_FEEDS = "give a list (or any iterable) of {input name: array}"


def open_dataset(
    path: Path, signature: Signature, options: ReadOptions, *, beside: Path | None = None
) -> Dataset:
    """The samples in a file or folder, ready for a model of this signature.

    `beside` is the model's folder: its tokenizer.json and preprocessor_config.json are used.
    Raises InputError for a path without usable data, for data that does not fit the model, and
    for options that mean nothing here. Values (NaN, damage) are checked when batches are read.
    """
    _check_options(signature, options)
    files = _list_files(path, options)
    reader = _choose(path, files)
    _check_used(reader, options, path)
    chosen = tuple(file for file in files if _reader_of(file) is reader)
    source = reader.open(Request(path, chosen, signature, options, beside))
    return _finish(source, signature, options)


def from_feeds(
    feeds: Iterable[Mapping[str, Array]], signature: Signature, options: ReadOptions
) -> Dataset:
    """The same from feeds in memory: any iterable of mappings from input name to array."""
    _check_options(signature, options)
    if isinstance(feeds, Mapping) or not isinstance(feeds, Iterable):
        kind = "one feed" if isinstance(feeds, Mapping) else f"a {type(feeds).__name__}"
        raise InputError(f"the data is {kind}, not feeds", hint=_FEEDS)
    items = [_feed(f"feed {at}", feed) for at, feed in enumerate(feeds)]
    if not items:
        raise InputError("no feeds are given", hint="give at least one mapping of arrays")
    source = ArraySource(items, signature, options=options, kind="feeds")
    return _finish(source, signature, options)


def _feed(name: str, feed: object) -> Feed:
    if not isinstance(feed, Mapping):
        raise InputError(f"{name} is a {type(feed).__name__}, no mapping", hint=_FEEDS)
    return Feed(name, {str(key): np.asarray(array) for key, array in feed.items()})


def find_mask(signature: Signature, options: ReadOptions) -> str | None:
    """The input that marks real rows: the one named, the one fed with attention_mask, or none."""
    if options.mask is not None:
        return None if options.mask == "none" else options.mask
    if signature.input(MASK) is not None:
        return MASK
    return next((name for name, field in options.inputs.items() if field == MASK), None)


def _finish(source: Source, signature: Signature, options: ReadOptions) -> Dataset:
    """What all readers share: the mask, labels in a file of their own, the random subset."""
    mask = find_mask(signature, options)
    labels, notes = None, () if mask is None else (f"padding is what {mask} marks with 0",)
    if options.labels is not None:
        labels = read_label_file(options.labels, samples=source.count)
        notes = (*notes, f"labels: {options.labels}")
    dataset = Dataset(source, mask=mask, labels=labels, notes=notes)
    return dataset if options.samples is None else dataset.take(options.samples, options.seed)


def _check_options(signature: Signature, options: ReadOptions) -> None:
    """Raise InputError where an option names an input that the model does not have."""
    names = [spec.name for spec in signature.inputs]
    if not names:
        raise InputError("the model has no inputs, so there is nothing to feed")
    wanted = [("--input", name) for name in options.inputs]
    if options.mask not in (None, "none"):
        wanted.append(("--mask", str(options.mask)))
    for option, name in wanted:
        if name not in names:
            raise InputError(
                f"{option} {name}: the model has no such input",
                hint=f"its inputs are {', '.join(names)}",
            )


def _check_used(reader: Reader, options: ReadOptions, path: Path) -> None:
    """Raise InputError for an option that this reader would ignore."""
    for name in sorted({name for other in READERS for name in other.uses} - set(reader.uses)):
        if getattr(options, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} means nothing here: {path} holds {reader.name}",
                hint="leave the option out",
            )


def _list_files(path: Path, options: ReadOptions) -> list[Path]:
    """The file, or all visible files of the folder that no option names."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file():
        return [path]
    named = (options.labels, options.classes, options.tokenizer)
    apart = {file.resolve() for file in named if file is not None}
    return [file for file in _walk(path, _DEPTH) if file.resolve() not in apart]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Visible files in order of their names, folders of folders down to `depth`."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read") from error
    for entry in entries:
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_file():
            yield entry
        elif depth and entry.is_dir():
            yield from _walk(entry, depth - 1)


def _reader_of(file: Path) -> Reader | None:
    suffix = file.suffix.lower()
    return next((reader for reader in READERS if suffix in reader.suffixes), None)


def _choose(path: Path, files: list[Path]) -> Reader:
    """The one reader for these files. Raises InputError where there is none, or more than one."""
    found: dict[str, int] = {}
    readers = [reader for file in files if (reader := _reader_of(file)) is not None]
    for reader in readers:
        found[reader.name] = found.get(reader.name, 0) + 1
    if not found:
        kinds = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
        what = "is empty" if not files else "holds no data that can be read"
        raise InputError(f"{path} {what}", hint=f"expected {kinds}")
    if len(found) > 1:
        kinds = ", ".join(f"{name} ({count})" for name, count in sorted(found.items()))
        raise InputError(
            f"{path} holds more than one kind of data: {kinds}",
            hint="name one file, or a folder with one kind of data",
        )
    return readers[0]
