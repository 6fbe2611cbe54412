"""What a report says, as plain records: report.json (`mipack-report/1`) holds exactly these.

Everything in it is data: texts and names come from models and files, and are escaped where they are
shown. A part that was not measured is None (or empty), and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mipack.evaluate.changes import Changes
from mipack.evaluate.compare import Score
from mipack.evaluate.fidelity import Fidelity
from mipack.result import Check, Size

FORMAT: Final = "mipack-report/1"
Pair = tuple[float, float]
"""Bounds of a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """May this be shipped: "yes", "look" (a person has to weigh the reasons) or "no"."""

    answer: Literal["yes", "look", "no"]
    headline: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it was written or read: `role` is "original", "result", "weights" or "plan"."""

    role: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCut:
    """What a group of units lost, in the order of the network.

    `state`: free, family (chosen within each unit of another group) or width (averaged over).
    `macs`: share of the model's MACs in layers that the group takes part in (shares overlap).
    `information`: share of it that the kept units hold; `loss`: predicted nats per sample; both
    None where the group was not ranked.
    """

    name: str
    kind: str
    state: str
    size: int
    kept: int
    macs: float
    information: float | None = None
    loss: float | None = None
    rotated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenClass:
    """Groups that may not be cut for one kind of reason, with one of them and who froze it."""

    reason: str
    groups: int
    units: int
    example: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Both models on samples that fitted nothing. `score` where there are labels; `interval`
    bounds the agreement (Wilson); `changes`: which inputs get another answer."""

    samples: int
    source: str
    score: Score | None
    fidelity: tuple[Fidelity, ...]
    interval: Pair | None
    changes: Changes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One model on one shape; `samples_ms` are raw, alternating with those of the other models."""

    name: str
    shape: str
    median_ms: float
    p95_ms: float
    load_ms: float | None
    peak_memory_bytes: int | None
    threads: int
    provider: str
    repeats: int
    samples_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Time of one model as a share of the base's on one shape, with its 95 % interval."""

    name: str
    base: str
    shape: str
    ratio: float
    interval: Pair
    noisy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTime:
    """What an operator costs in all its nodes, in milliseconds per run."""

    op: str
    before_nodes: int
    before_ms: float
    after_nodes: int
    after_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """What one node costs, found in both models by the value that it computes; None where the
    runtime runs no such node."""

    op: str
    output: str
    before_ms: float | None
    after_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Where the time goes on one shape, from the runtime's own profile; the costliest nodes."""

    shape: str
    ops: tuple[OpTime, ...]
    nodes: tuple[NodeTime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A race of both models, by shape; the first named is the original."""

    timings: tuple[Timing, ...]
    contrasts: tuple[Contrast, ...]
    warning: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of finishing, the original first; None where it was not measured."""

    name: str
    bytes: int | None = None
    score: float | None = None
    accuracy: float | None = None
    agreement: float | None = None
    kl: float | None = None
    ratio: float | None = None
    interval: Pair | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of prune. `settings` are those of the plan, `promises` what was measured of budgets
    that are no counts, `timings` seconds per stage, `environment` the machine's facts."""

    format: Literal["mipack-report/1"] = FORMAT
    mipack: str
    created: str
    name: str
    command: str
    verdict: Verdict
    before: Size
    after: Size
    unread: Size | None
    groups: tuple[GroupCut, ...]
    frozen: tuple[FrozenClass, ...]
    quality: Quality | None
    latency: Latency | None
    operators: Operators | None
    stages: tuple[Stage, ...]
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    promises: Mapping[str, Any]
    sizes: Mapping[str, int]
    timings: Mapping[str, float]
    peak_memory: int | None
    files: tuple[File, ...]
    model_digest: str
    data: tuple[str, ...]
    data_digest: str | None
    environment: Mapping[str, Any]
    signature_changed: bool = False
    class_names: tuple[str, ...] = field(default=())

    def file(self, role: str) -> File | None:
        """The file of that role, if there is one."""
        return next((file for file in self.files if file.role == role), None)
