"""Named arrays as samples: the source behind .npz, .npy, .pb and feeds given in memory.

An item (a file, a folder of tensors, one mapping) holds one array per input. Where the signature
has a sample axis and the arrays agree on its length, every row is a sample, and rows of equal
trailing shapes may share a batch. Otherwise each item is one sample and is fed as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from mipack.data.checks import (
    Header,
    check_header,
    dtype_of,
    fit,
    sample_axes,
    shown,
    static_batch,
)
from mipack.data.dataset import Array, Feeds, ReadOptions
from mipack.data.labels import check_labels
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec


class Item(Protocol):
    """One set of named arrays; `place` is what the user calls it."""

    @property
    def place(self) -> str:
        """Path or position, for messages."""

    def headers(self) -> dict[str, Header]:
        """Shapes and types by array name, without reading the data."""

    def load(self, names: Sequence[str]) -> dict[str, Array]:
        """The arrays of these names."""

    def content(self) -> bytes:
        """A digest of the data."""


class ArraySource:
    """The `Source` over items. Raises InputError where an array is missing or does not fit."""

    def __init__(
        self,
        items: Sequence[Item],
        signature: Signature,
        *,
        options: ReadOptions,
        kind: str,
    ) -> None:
        label_array = options.label_column
        self._allow_nan = options.allow_nan
        self._items, self._specs = items, {spec.name: spec for spec in signature.inputs}
        self._dtypes = {name: dtype_of(spec.dtype) for name, spec in self._specs.items()}
        headers = [item.headers() for item in items]
        self._fields = [
            bind(item.place, fields, signature, inputs=options.inputs, extra=label_array)
            for item, fields in zip(items, headers, strict=True)
        ]
        self._bound = [
            {name: fields[field] for name, field in chosen.items()}
            for fields, chosen in zip(headers, self._fields, strict=True)
        ]
        self._axes = self._find_axes(signature)
        for item, chosen, bound in zip(items, self._fields, self._bound, strict=True):
            for name, spec in self._specs.items():
                axis = self._axes[name] if self._axes else None
                check_header(item.place, chosen[name], bound[name], spec, axis)
        self.batch = static_batch(signature, self._axes)
        self._where = [(at, row) for at in range(len(items)) for row in range(self._rows(at))]
        self.count = len(self._where)
        if not self.count:
            raise InputError(f"{items[0].place}: no samples in it", hint="give at least one")
        self.labels = None if label_array is None else self._read_labels(label_array)
        self.description = self._describe(kind)
        self._cached: tuple[int, dict[str, Array]] | None = None
        self._digests: dict[int, bytes] = {}

    def _find_axes(self, signature: Signature) -> dict[str, int] | None:
        """The sample axes, if the arrays of every item agree on their length."""
        axes = sample_axes(signature)
        if axes is None or any(not _has_axes(bound, axes) for bound in self._bound):
            return None
        for item, bound in zip(self._items, self._bound, strict=True):
            lengths = {name: header.shape[axes[name]] for name, header in bound.items()}
            if len(set(lengths.values())) > 1:
                _refuse_unequal(item.place, lengths, self._specs, axes)
                return None
        return axes

    def _rows(self, at: int) -> int:
        if self._axes is None:
            return 1
        name, header = next(iter(self._bound[at].items()))
        return header.shape[self._axes[name]]

    def _describe(self, kind: str) -> tuple[str, ...]:
        fields, bound = self._fields[0], self._bound[0]
        unit = "rows" if self._axes else "whole feeds (no common sample axis)"
        lines = [f"{kind}: {len(self._items):,} read as {self.count:,} {unit}"]
        for name, spec in self._specs.items():
            source = "" if fields[name] == name else f" <- {fields[name]}"
            had = bound[name].dtype
            cast = "" if had == self._dtypes[name] else f", converted from {had.name}"
            lines.append(f"{name}{source}: {spec.dtype} {shown(bound[name].shape)}{cast}")
        return tuple(lines)

    def _read_labels(self, name: str) -> Array:
        parts = []
        for at, item in enumerate(self._items):
            array = np.atleast_1d(item.load([name])[name])
            parts.append(check_labels(array, place=f"{item.place}: {name}", samples=self._rows(at)))
        return np.concatenate(parts)

    def keys(self, indices: Sequence[int]) -> list[tuple[Hashable, int]]:
        """Rows may meet where all their shapes are equal, whole feeds never."""
        return [(self._group(self._where[index][0]), 0) for index in indices]

    def _group(self, at: int) -> Hashable:
        if self._axes is None:
            return at
        axes = self._axes
        return tuple(
            header.shape[: axes[name]] + header.shape[axes[name] + 1 :]
            for name, header in self._bound[at].items()
        )

    def load(self, indices: Sequence[int]) -> Feeds:
        """Rows stacked along the sample axes, in this order; a whole feed as it is."""
        where, axes = [self._where[index] for index in indices], self._axes
        if axes is None:
            return self._fit(where[0][0], self._open(where[0][0]))
        parts: dict[str, list[Array]] = {name: [] for name in self._specs}
        for at, rows in _runs(where):
            opened = self._open(at)
            picked = {n: np.take(a, rows, axis=axes[n]) for n, a in opened.items()}
            for name, array in self._fit(at, picked).items():
                parts[name].append(array)
        return {name: np.concatenate(part, axis=axes[name]) for name, part in parts.items()}

    def _open(self, at: int) -> dict[str, Array]:
        """The arrays of an item by input; the last item is kept, for rows come in file order."""
        if self._cached is None or self._cached[0] != at:
            fields = self._fields[at]
            arrays = self._items[at].load(list(dict.fromkeys(fields.values())))
            self._cached = at, {name: arrays[field] for name, field in fields.items()}
        return self._cached[1]

    def _fit(self, at: int, arrays: Mapping[str, Array]) -> Feeds:
        place, fields = self._items[at].place, self._fields[at]
        return {
            name: fit(place, fields[name], array, self._dtypes[name], allow_nan=self._allow_nan)
            for name, array in arrays.items()
        }

    def title(self, index: int) -> str:
        """The item, and the row of it, where there are several."""
        at, row = self._where[index]
        if len(self._items) == 1:
            return ""
        place = self._items[at].place
        return place if self._axes is None else f"{place}, row {row}"

    def content(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The digest of each item and the row in it."""
        for name in self._specs:
            yield f"{name} {self._dtypes[name].name}".encode()
        for index in indices:
            at, row = self._where[index]
            if at not in self._digests:
                chosen = repr(sorted(self._fields[at].items())).encode()
                self._digests[at] = hashlib.sha256(self._items[at].content() + chosen).digest()
            yield self._digests[at] + row.to_bytes(8, "little")


def _has_axes(bound: Mapping[str, Header], axes: Mapping[str, int]) -> bool:
    return all(len(header.shape) > axes[name] for name, header in bound.items())


def _refuse_unequal(
    place: str, lengths: Mapping[str, int], specs: Mapping[str, TensorSpec], axes: Mapping[str, int]
) -> None:
    """Different lengths are an error where the model itself calls both axes by one name."""
    seen: dict[object, str] = {}
    for name, length in lengths.items():
        shape = specs[name].shape
        dim = shape[axes[name]] if shape is not None else None
        other = seen.setdefault(dim, name) if dim is not None else name
        if lengths[other] != length:
            raise InputError(
                f"{place}: array for {other!r} has {lengths[other]:,} samples, for {name!r} "
                f"{length:,}",
                hint=f"the model declares {dim!r} for both axes: give them one length",
            )


def _runs(where: Sequence[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """Consecutive rows of one item together: [(item, rows)]."""
    runs: list[tuple[int, list[int]]] = []
    for at, row in where:
        if not runs or runs[-1][0] != at:
            runs.append((at, []))
        runs[-1][1].append(row)
    return runs


def bind(
    place: str,
    headers: Mapping[str, Header],
    signature: Signature,
    *,
    inputs: Mapping[str, str],
    extra: str | None = None,
) -> dict[str, str]:
    """The array that feeds each input: the one `inputs` names, the one of its name, or the only
    one for an only input. Raises InputError where there is none, or `extra` is not there."""
    has = f"it holds {', '.join(headers) or 'no arrays'}"
    if extra is not None and extra not in headers:
        raise InputError(f"{place}: no array {extra!r} with labels", hint=has)
    chosen = {spec.name: inputs.get(spec.name, spec.name) for spec in signature.inputs}
    others = [name for name in headers if name != extra]
    if len(chosen) == len(others) == 1 and not inputs:
        return dict.fromkeys(chosen, others[0])
    for name, field in chosen.items():
        if field not in headers:
            raise InputError(
                f"{place}: no array {field!r} for the model's input {name!r}",
                hint=f"{has}; name another with --input {name}=FIELD",
            )
    return chosen
