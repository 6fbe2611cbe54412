"""Reads text through the model's tokenizer: rows become padded token arrays.

The names of a tokenizer's results are an interface: inputs called input_ids, attention_mask,
token_type_ids or position_ids get them, inputs called past* get empty caches, and `--input`
says so for inputs of other names. Texts are tokenized when they are first asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.data.checks import dtype_of, is_float, is_integer, sample_axes, shown
from mipack.data.dataset import Array, Feeds
from mipack.data.labels import encode_labels
from mipack.data.reader import Request
from mipack.data.tables import USUAL_LABEL, Row, Table, read_rows
from mipack.errors import InputError
from mipack.records import Signature, TensorSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IDS, MASK, TYPES, POSITIONS, EMPTY = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "empty",
)
FIELDS = (IDS, MASK, TYPES, POSITIONS, EMPTY)


def open_text(parse: Callable[[Path], Iterator[Row]]) -> Callable[[Request], TextSource]:
    """The reader of the text files that `parse` understands."""

    def read(request: Request) -> TextSource:
        table = read_rows(request.root, request.files, parse)
        return TextSource(request, table)

    return read


@dataclass(frozen=True, slots=True)
class Padding:
    """How tokens are padded: ids of the padding token and its type, and the side."""

    token: int
    kind: int
    left: bool


def _arrow(name: str, field: str) -> str:
    return name if name == field else f"{name} <- {field}"


class TextSource:
    """The `Source` over texts."""

    def __init__(self, request: Request, table: Table) -> None:
        options, signature = request.options, request.signature
        column = options.text_column or table.text_column(label=options.label_column)
        self._texts = _texts(table, column)
        self.count = len(self._texts)
        self._specs = signature.inputs
        self._fields = match_fields(signature, request)
        self._axes = sample_axes(signature) or {spec.name: 0 for spec in signature.inputs}
        self.batch = _static_size(self._specs, self._fields, 0)
        self._static = _static_size(self._specs, self._fields, 1)
        path = _find_tokenizer(request)
        self._tokenizer, self._padding = load_tokenizer(path, length=self._static)
        self._identity = path.read_bytes()
        self._encoded: dict[int, tuple[Array, Array]] = {}
        self.labels, labelled = _labels(table, request)
        self.description = (
            f"text: {self.count:,} rows of {table.place}, column {column!r}",
            f"tokenizer {path.name}, {self._describe_length()}",
            "inputs: " + ", ".join(_arrow(name, field) for name, field in self._fields.items()),
            *labelled,
        )

    @property
    def _has_mask(self) -> bool:
        return MASK in self._fields.values()

    def _describe_length(self) -> str:
        own = self._tokenizer.truncation
        cut = f", truncated to {own['max_length']} tokens" if own else ""
        if self._static is not None:
            return f"padded to the model's {self._static} tokens{cut}"
        padded = "padded to the longest of the batch"
        return f"{padded if self._has_mask else 'only texts of one length in a batch'}{cut}"

    def keys(self, indices: Sequence[int]) -> list[tuple[Hashable, int]]:
        """Texts may meet if a mask hides the padding, else only where they need none."""
        self._encode(indices)
        lengths = [len(self._encoded[index][0]) for index in indices]
        padded = self._has_mask or self._static is not None
        return [(0 if padded else length, length) for length in lengths]

    def _encode(self, indices: Sequence[int]) -> None:
        """Tokenize those that are not yet."""
        missing = [index for index in indices if index not in self._encoded]
        texts = [self._texts[index] for index in missing]
        for index, tokens in zip(missing, self._tokenizer.encode_batch(texts), strict=True):
            if not tokens.ids:
                raise InputError(
                    f"text {index + 1} ({self._texts[index][:40]!r}) has no tokens",
                    hint="remove it from the data",
                )
            ids, kinds = np.asarray(tokens.ids), np.asarray(tokens.type_ids)
            self._encoded[index] = ids.astype(np.int64), kinds.astype(np.int64)

    def load(self, indices: Sequence[int]) -> Feeds:
        """[N, tokens] for every field; caches with no past."""
        self._encode(indices)
        encoded = [self._encoded[index] for index in indices]
        arrays = pad(encoded, self._padding, self._static)
        feeds = {}
        for spec in self._specs:
            field = self._fields[spec.name]
            axis = self._axes[spec.name]
            array = empty(spec, len(indices), axis) if field == EMPTY else arrays[field]
            feeds[spec.name] = array.astype(dtype_of(spec.dtype), copy=False)
        return feeds

    def title(self, index: int) -> str:
        """The text."""
        return self._texts[index]

    def content(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The preparation, the tokenizer, then every text."""
        types = [(spec.name, spec.dtype, self._fields[spec.name]) for spec in self._specs]
        yield repr((types, self._static)).encode()
        yield hashlib.sha256(self._identity).digest()
        for index in indices:
            yield self._texts[index].encode()


def _texts(table: Table, column: str) -> list[str]:
    texts = table.values(column)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise InputError(
                f"{table.place}: row {number} has no text in {column!r}",
                hint="name another column with --text-column",
            )
    return texts


def _labels(table: Table, request: Request) -> tuple[Array | None, tuple[str, ...]]:
    """Labels from the column that is named, or from the usual one where it holds classes."""
    column, classes = request.options.label_column, request.options.classes
    if column is None:
        if USUAL_LABEL not in table.columns:
            return None, ()
        numeric = all(str(value).isdecimal() for value in table.values(USUAL_LABEL))
        if classes is None and not numeric:  # names would get numbers by a guess
            return None, ()
        column = USUAL_LABEL
    labels = encode_labels(table.values(column), classes, place=f"{table.place}: {column}")
    return labels, (f"labels: column {column!r}",)


def match_fields(signature: Signature, request: Request) -> dict[str, str]:
    """The field that feeds each input. Raises InputError for an input that text cannot feed."""
    chosen = request.options.inputs
    fields = {}
    for spec in signature.inputs:
        usual = spec.name if spec.name in FIELDS else ""
        usual = EMPTY if spec.name.startswith("past") else usual
        field = chosen.get(spec.name, usual)
        if field not in FIELDS:
            problem = f"text has no field {field!r} for" if field else "text does not feed"
            raise InputError(
                f"{problem} the model's input {spec.name!r} ({spec.dtype} {shown(spec.shape)})",
                hint=f"--input {spec.name}=FIELD with one of {', '.join(FIELDS)}; or .npz files",
            )
        _check_input(spec, field)
        fields[spec.name] = field
    if IDS not in fields.values():
        raise InputError(
            f"{request.root} holds text, but no input of the model takes token ids",
            hint="name it: --input NAME=input_ids",
        )
    return fields


def _check_input(spec: TensorSpec, field: str) -> None:
    """Raise InputError where the input's rank or type cannot hold the field."""
    if field == EMPTY:
        fits = spec.shape is not None
    else:
        dtype = dtype_of(spec.dtype)
        numeric = is_integer(dtype) or (field == MASK and (is_float(dtype) or dtype.kind == "b"))
        fits = numeric and (spec.shape is None or len(spec.shape) == 2)
    if not fits:
        raise InputError(
            f"{field} cannot feed the model's input {spec.name!r} "
            f"({spec.dtype} {shown(spec.shape)})",
            hint="give .npz files with one array per input",
        )


def _static_size(specs: Sequence[TensorSpec], fields: dict[str, str], axis: int) -> int | None:
    """The number of texts (axis 0) or tokens (1) that the model fixes, if it does.

    Raises InputError if it fixes two.
    """
    shapes = [spec.shape for spec in specs if spec.shape and fields[spec.name] != EMPTY]
    fixed = sorted({size for shape in shapes if isinstance(size := shape[axis], int)})
    if len(fixed) > 1:
        raise InputError(
            f"the model's inputs fix different sizes of axis {axis}: {fixed}",
            hint="give .npz files with one array per input",
        )
    return fixed[0] if fixed else None


def _find_tokenizer(request: Request) -> Path:
    """The one that is named, else the one beside the model."""
    named, beside = request.options.tokenizer, request.beside
    for folder in (named, beside):
        if folder is not None and (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    if named is None:
        raise InputError(
            f"{request.root} holds text, but there is no tokenizer",
            hint="give --tokenizer tokenizer.json, or put tokenizer.json beside the model",
        )
    if not named.is_file():
        raise InputError(f"{named}: no such tokenizer", hint="give a tokenizer.json")
    return named


def load_tokenizer(path: Path, *, length: int | None) -> tuple[Tokenizer, Padding]:
    """The tokenizer, cutting texts as it says itself and at most to `length` tokens, and its
    padding, which is applied per batch. Raises InputError where the file is none."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path}: not a tokenizer.json", hint="is the file whole?") from error
    padding = _padding(tokenizer)
    tokenizer.no_padding()
    own: dict[str, Any] = dict(tokenizer.truncation or {})
    if length is not None and own.get("max_length", length + 1) > length:
        tokenizer.enable_truncation(**{**own, "max_length": length, "stride": 0})
    return tokenizer, padding


def _padding(tokenizer: Tokenizer) -> Padding:
    """The tokenizer's own padding, else its padding token, else token 0 on the right."""
    own = tokenizer.padding
    if own:
        return Padding(own["pad_id"], own["pad_type_id"], own["direction"] == "left")
    added = tokenizer.get_added_tokens_decoder()
    named = [number for number, token in added.items() if "pad" in token.content.lower()]
    return Padding(min(named, default=0), 0, left=False)


def pad(
    encoded: Sequence[tuple[Array, Array]], padding: Padding, length: int | None
) -> dict[str, Array]:
    """Tokens (ids, types) of some texts as one [N, length] array per field; `length` None means
    the longest. Positions count the tokens of a text from 0."""
    width = max(len(ids) for ids, _ in encoded) if length is None else length
    shape = len(encoded), width
    out = {IDS: np.full(shape, padding.token), TYPES: np.full(shape, padding.kind)}
    out[MASK] = np.zeros(shape, np.int64)
    out[POSITIONS] = np.zeros(shape, np.int64)
    for row, (ids, kinds) in enumerate(encoded):
        start = width - len(ids) if padding.left else 0
        real = slice(start, start + len(ids))
        out[IDS][row, real], out[TYPES][row, real] = ids, kinds
        out[MASK][row, real] = 1
        out[POSITIONS][row] = np.maximum(np.arange(width) - start, 0)
    return out


def empty(spec: TensorSpec, samples: int, axis: int) -> Array:
    """A cache with no past: every dynamic size but the batch is 0."""
    shape = [dim if isinstance(dim, int) else 0 for dim in spec.shape or ()]
    if shape:
        shape[axis] = samples
    return np.zeros(shape, dtype_of(spec.dtype))
