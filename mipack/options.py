"""What steers a run, and who is told of its progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

from mipack.errors import InputError
from mipack.select.criteria import CRITERIA, OPTIONS, PREDICTORS
from mipack.select.estimators import ESTIMATORS
from mipack.select.evidence import CriterionOptions
from mipack.select.request import BUDGETS, Request
from mipack.select.signal import SIGNALS

LOGGER = logging.getLogger("mipack")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """Everything that steers a run; see the README for each."""

    keep: float | None = None
    macs: float | None = None
    params: float | None = None
    size: float | None = None
    latency: float | None = None
    max_drop: float | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    width: float | None = None
    allow_signature: bool = False
    criterion: str = "mi"
    estimator: str | None = None
    confidence: float | None = None
    mipp_predictor: str | None = None
    signal: str = "auto"
    allocate: str = "information"
    round_to: int | None = None
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    refit: bool = True
    keep_unread: bool = False
    count_unread: bool = False
    seed: int = 0
    provider: str = "auto"
    batch_size: int = 32
    moments: Path | None = None
    from_plan: Path | None = None

    def budgets(self) -> dict[str, float]:
        """The budgets given."""
        listed = ((name, getattr(self, name)) for name in BUDGETS)
        return {name: share for name, share in listed if share is not None}

    def request(self) -> Request:
        """The budgets; where none is given everything stays but what `width` takes, and what the
        criterion finds superfluous by itself (`confidence`)."""
        given = self.budgets()
        own = not given and self.max_drop is None and self.confidence is not None
        return Request(
            **(given or {"keep": 1.0}),
            allocate="tau" if own else self.allocate,
            round_to=self.round_to,
            width=self.width,
            own=own,
        )

    def of_criterion(self) -> dict[str, Any]:
        """What the criterion is told, defaults included."""
        default = CriterionOptions()
        return {
            name: getattr(default, name) if getattr(self, name) is None else getattr(self, name)
            for name in OPTIONS.get(self.criterion, ())
        }


class Choices(TypedDict, total=False):
    """How it is decided what goes, and how the model is run: fields of `PruneOptions` as keyword
    arguments. A lone pattern may be text."""

    width: float | None
    allow_signature: bool
    criterion: str
    estimator: str | None
    confidence: float | None
    mipp_predictor: str | None
    signal: str
    allocate: str
    round_to: int | None
    only: str | Iterable[str]
    exclude: str | Iterable[str]
    refit: bool
    keep_unread: bool
    count_unread: bool
    seed: int
    provider: str
    batch_size: int


class Settings(Choices, total=False):
    """All fields of `PruneOptions`; paths may be text."""

    keep: float | None
    macs: float | None
    params: float | None
    size: float | None
    latency: float | None
    max_drop: float | None
    shape: Mapping[str, int]
    moments: Path | str | None
    from_plan: Path | str | None


def checked(settings: Mapping[str, Any]) -> PruneOptions:
    """Options from keyword arguments; a lone pattern and paths may be strings.

    Raises InputError for a value that means nothing and for no budget or several.
    """
    try:
        options = PruneOptions(**{name: _plain(name, value) for name, value in settings.items()})
    except TypeError as error:
        raise InputError(f"unknown option: {error}", hint="see mipack.PruneOptions") from error
    _check_budget(options)
    _check_unread(options)
    _check_names(options)
    _check_criterion(options)
    for name, value, least in (
        ("round", options.round_to, 1),
        ("seed", options.seed, 0),
        ("batch-size", options.batch_size, 1),
    ):
        if value is not None and (not isinstance(value, int) or value < least):
            what = "not a multiple" if name == "round" else "not a whole number in range"
            raise InputError(f"--{name} {value}: {what}", hint=f"give {least} or more")
    return options


def _plain(name: str, value: Any) -> Any:
    """A value as its field holds it."""
    if name in ("only", "exclude"):
        return (value,) if isinstance(value, str) else tuple(value)
    return Path(value) if name in ("moments", "from_plan") and isinstance(value, str) else value


def _check_budget(options: PruneOptions) -> None:
    given, planned = options.budgets(), options.from_plan is not None
    if planned and given:
        raise InputError(
            "a plan has its widths: a budget cannot be met beside it",
            hint="give budgets or --from-plan",
        )
    others = (options.width, options.max_drop, options.confidence)
    if not (given or planned or any(value is not None for value in others)):
        raise InputError(
            "at least one budget is needed, none given",
            hint="give --keep, --macs, --params, --size, --latency, --max-drop, or --from-plan",
        )
    if options.width is not None:
        given["width"] = options.width
    for name, value in given.items():
        if not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise InputError(f"--{name} {value}: not a share", hint="give a number in (0, 1]")
    drop = options.max_drop
    if drop is not None and (not isinstance(drop, (int, float)) or not 0 <= drop < 100):
        raise InputError(f"--max-drop {drop}: not points", hint="give 0 or more, below 100")
    if options.shape and options.latency is None:
        raise InputError("--shape is where --latency is measured", hint="give --latency too")


def _check_unread(options: PruneOptions) -> None:
    if not options.count_unread:
        return
    if options.keep_unread:
        raise InputError(
            "--count-unread and --keep-unread exclude each other", hint="give one of them"
        )
    if options.keep is None and options.macs is None:
        raise InputError(
            "--count-unread: the budget holds no MACs that could be counted",
            hint="give it with --keep or --macs",
        )


def _check_names(options: PruneOptions) -> None:
    tables: dict[str, Iterable[str]] = {
        "criterion": CRITERIA,
        "signal": ("auto", *SIGNALS),
        "allocate": ("information", "uniform", "tau"),
        "estimator": ESTIMATORS,
        "mipp-predictor": PREDICTORS,
        "provider": ("auto", "cpu", "cuda"),
    }
    for name, known in tables.items():
        given = getattr(options, name.replace("-", "_"))
        if given is not None and given not in set(known):
            raise InputError(f"--{name} {given}: not known", hint="one of " + ", ".join(known))


def _check_criterion(options: PruneOptions) -> None:
    """What only some criteria are told is a mistake beside another."""
    for name in ("estimator", "confidence", "mipp_predictor"):
        if getattr(options, name) is not None and name not in OPTIONS.get(options.criterion, ()):
            having = [criterion for criterion, names in OPTIONS.items() if name in names]
            raise InputError(
                f"--{name.replace('_', '-')} says nothing to the criterion {options.criterion}",
                hint=f"it is for --criterion {' or '.join(having)}",
            )
    sure = options.confidence
    if sure is not None and (not isinstance(sure, (int, float)) or not 0 < sure < 1):
        raise InputError(f"--confidence {sure}: not a share", hint="give a number in (0, 1)")


class Progress(Protocol):
    """Who is told what happens."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins; `total` steps if known."""

    def advance(self, n: int = 1) -> None:
        """Steps done."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def warn(self, text: str) -> None:
        """Something worth acting on."""


class Logged:
    """Tells the logger "mipack": stages and notes as INFO, warnings as WARNING."""

    def stage(self, name: str, total: int | None) -> None:
        """As the command line says it."""
        LOGGER.info("%s", name if total is None else f"{name} ({total:,})")

    def advance(self, n: int = 1) -> None:
        """Nothing: a log is no progress bar."""

    def note(self, text: str) -> None:
        """Something worth knowing."""
        LOGGER.info("%s", text)

    def warn(self, text: str) -> None:
        """Something worth acting on; it is in the result's `warnings` too."""
        LOGGER.warning("%s", text)


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, say: Progress, total: int | None = None) -> Iterator[None]:
        say.stage(name, total)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - start, 3)
