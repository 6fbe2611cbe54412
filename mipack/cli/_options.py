"""The options that several commands share, in one wording, as records.

A command takes records as parameters; `flat` turns every field into an option of the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from mipack.cli._out import Sink
from mipack.errors import InputError

if TYPE_CHECKING:
    from mipack.data.dataset import ReadOptions

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="an ONNX model", show_default=False)]

Shape = Annotated[
    str | None,
    typer.Option(help="sizes of dimensions, e.g. batch=8,sequence=128", metavar="NAME=N,..."),
]


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one parameter per field of its records, as typer wants to see it."""
    hints = get_type_hints(command, include_extras=True)
    records: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            records[parameter.name] = kind
            parameters += _parameters(kind)
        else:
            parameters.append(parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**values: Any) -> None:
        for name, kind in records.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _parameters(record: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(record)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """How a command talks."""

    json: Annotated[
        bool, typer.Option("--json", help="print one JSON document to stdout, nothing else")
    ] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say more")] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="no progress and no notes on stderr")
    ] = False

    def sink(self, command: str, *, runtime: bool = True) -> Sink:
        """The command's sink; where it uses the runtime, a doubled install is said at once."""
        sink = Sink(command, json=self.json, quiet=self.quiet, verbose=self.verbose)
        if runtime:
            from mipack.runtime.machine import doubled_runtime

            doubled = doubled_runtime()
            if doubled is not None:
                sink.warn(doubled)
        return sink


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What a model needs to be loaded."""

    custom_ops: Annotated[
        list[Path] | None,
        typer.Option(help="a shared library with custom ops of the model", metavar="LIB"),
    ] = None

    def libraries(self) -> AbstractContextManager[None]:
        """While it is entered, every session knows the ops of the libraries."""
        from mipack.runtime.session import custom_ops

        return custom_ops(*(self.custom_ops or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How models are run."""

    provider: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="where to run; auto: what really works")
    ] = "auto"
    batch_size: Annotated[int, typer.Option(help="samples per run", min=1)] = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """How data is read: the fields of `ReadOptions`, as the user writes them."""

    samples: Annotated[
        str | None,
        typer.Option(help="use N samples at random, or all", metavar="N|all", show_default=False),
    ] = None
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json for text (default: beside the model)")
    ] = None
    text_column: Annotated[str | None, typer.Option(help="column or field that holds the text")] = (
        None
    )
    label_column: Annotated[
        str | None, typer.Option(help="column, field or array that holds the labels")
    ] = None
    labels: Annotated[Path | None, typer.Option(help=".npy with one integer per sample")] = None
    classes: Annotated[
        Path | None, typer.Option(help="class names, one per line, in the model's order")
    ] = None
    mean: Annotated[
        str | None, typer.Option(help="subtract per channel, e.g. 0.485,0.456,0.406")
    ] = None
    std: Annotated[
        str | None, typer.Option(help="divide by per channel, e.g. 0.229,0.224,0.225")
    ] = None
    resize: Annotated[
        int | None, typer.Option(help="bring the shorter side of pictures to this", min=1)
    ] = None
    input: Annotated[
        list[str] | None,
        typer.Option(help="feed a model input from this field", metavar="NAME=FIELD"),
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(help="the input that marks real rows with 1", metavar="NAME|none"),
    ] = None
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="NaN in the data is meant")] = False
    seed: Annotated[int, typer.Option(help="of every random draw", min=0)] = 0

    def read(self, *, samples: int | None) -> ReadOptions:
        """What the readers take; `samples` is the command's default. InputError for bad lists."""
        from mipack.data.dataset import ReadOptions

        return ReadOptions(
            samples=samples if self.samples is None else _samples(self.samples),
            seed=self.seed,
            tokenizer=self.tokenizer,
            text_column=self.text_column,
            label_column=self.label_column,
            labels=self.labels,
            classes=self.classes,
            mean=_numbers("--mean", self.mean),
            std=_numbers("--std", self.std),
            resize=self.resize,
            inputs=pairs("--input", self.input or (), "NAME=FIELD"),
            mask=self.mask,
            allow_nan=self.allow_nan,
        )


def _samples(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"--samples {text}: not a number of samples", hint="give 1 or more, or all"
        )
    return int(text)


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """A comma list of numbers."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{option} {text}: not a list of numbers", hint="write it like 0.485,0.456,0.406"
        ) from error


def numbers(option: str, text: str) -> tuple[int, ...]:
    """A comma list of whole numbers from 1 on, each once."""
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and int(item) > 0 for item in items):
        raise InputError(
            f"{option} {text}: not a list of whole numbers", hint="write it like 1,2; from 1 on"
        )
    return tuple(dict.fromkeys(map(int, items)))


def pairs(option: str, items: tuple[str, ...] | list[str], form: str) -> dict[str, str]:
    """NAME=VALUE items as a mapping. InputError for another form, or a name given twice."""
    found: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise InputError(f"{option} {item}: not of the form {form}")
        if name in found:
            raise InputError(f"{option}: {name} is given twice")
        found[name] = value
    return found


def sizes(text: str | None) -> dict[str, int]:
    """NAME=N,... as a mapping. InputError for another form or a size below 1."""
    if text is None:
        return {}
    form = "NAME=N,NAME=N"
    found = pairs("--shape", [item.strip() for item in text.split(",")], form)
    for name, size in found.items():
        if not size.isdecimal() or int(size) < 1:
            raise InputError(f"--shape {name}={size}: not a size", hint="give 1 or more")
    return {name: int(size) for name, size in found.items()}
