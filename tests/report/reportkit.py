"""A whole report made by hand, every part of it filled, and hostile names to fill it with."""

from __future__ import annotations

from typing import Any

from mipack.evaluate.changes import Answer, Change, Changes, Flow
from mipack.evaluate.compare import ClassChange, Score
from mipack.evaluate.fidelity import Fidelity
from mipack.report.record import (
    Contrast,
    File,
    FrozenClass,
    GroupCut,
    Latency,
    NodeTime,
    Operators,
    OpTime,
    Quality,
    Report,
    Stage,
    Timing,
    Verdict,
)
from mipack.result import Check, Size

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=http://example.invalid/x onerror=alert(2)>",
    "\"'><svg/onload=alert(3)>",
    "\x1b[31mred\x00\x07",
    "\u202egnp.exe",
    "名前 ∑ 🦊",
    "{{ 7 * 7 }}{% raw %}",
    "\ud800 alone",
)


def timing(name: str, shape: str, milliseconds: float) -> Timing:
    samples = tuple(milliseconds * (1 + 0.01 * (n % 7)) for n in range(30))
    return Timing(
        name=name,
        shape=shape,
        median_ms=milliseconds * 1.03,
        p95_ms=milliseconds * 1.06,
        load_ms=12.0,
        peak_memory_bytes=3_000_000,
        threads=2,
        provider="CPUExecutionProvider",
        repeats=1,
        samples_ms=samples,
    )


def contrast(shape: str, ratio: float) -> Contrast:
    return Contrast(
        name="pruned",
        base="original",
        shape=shape,
        ratio=ratio,
        interval=(ratio * 0.98, ratio * 1.02),
        noisy=False,
    )


def quality(text: str, agreement: float = 0.95, difference: float = -1.5) -> Quality:
    flips = round(100 * (1 - agreement))
    return Quality(
        samples=100,
        source="held-out calibration samples",
        score=Score(
            metric="accuracy",
            output=text,
            first=0.9,
            second=0.9 + difference / 100,
            difference=difference,
            interval=(difference - 2.0, difference + 2.0),
            unit="points",
            lost=4,
            gained=2,
            classes=(ClassChange(0, 50, 0.9, 0.88), ClassChange(1, 50, 0.9, 0.9)),
        ),
        fidelity=(Fidelity(text, 100, agreement, flips, 0.01, 0.99, 0.1, 0),),
        interval=(agreement - 0.05, min(1.0, agreement + 0.05)),
        changes=Changes(
            output=text,
            rows=100,
            count=flips,
            flows=(Flow(before=0, after=1, rows=flips),),
            answers=(
                Answer(answer=0, before=50, after=45, both=45),
                Answer(answer=1, before=50, after=55, both=50),
            ),
            listed=tuple(
                Change(
                    index=at,
                    before=0,
                    after=1,
                    confidence=0.9 - 0.01 * at,
                    now=0.6,
                    label=at % 2,
                    name=f"{text} {at}",
                )
                for at in range(flips)
            ),
        ),
    )


def full(text: str = "layer", **changes: Any) -> Report:
    """A report in which every name is `text`."""
    given: dict[str, Any] = {
        "mipack": "0.1.0",
        "created": "2026-01-02T03:04:05+00:00",
        "name": text,
        "command": f"mipack prune {text}",
        "verdict": Verdict(answer="look", headline="Look first", reasons=(text,)),
        "before": Size(1000, 500, 2000),
        "after": Size(400, 200, 800),
        "unread": Size(380, 200, 800),
        "groups": tuple(
            GroupCut(
                name=f"{text}/{at}",
                kind=kind,
                state="free",
                size=64,
                kept=8 * (at + 1),
                macs=0.1,
                information=0.9,
                loss=0.01,
            )
            for at, kind in enumerate(("inner", "residual", "width"))
        ),
        "frozen": (FrozenClass(reason=text, groups=3, units=12, example=text, node=f"Op {text}"),),
        "quality": quality(text),
        "latency": Latency(
            timings=(timing("original", text, 2.0), timing("pruned", text, 1.0)),
            contrasts=(contrast(text, 0.5),),
            warning=text,
            notes=(text,),
        ),
        "operators": Operators(
            shape=text,
            ops=(OpTime(op=text, before_nodes=3, before_ms=1.5, after_nodes=3, after_ms=0.7),),
            nodes=(NodeTime(op="Conv", output=text, before_ms=1.0, after_ms=None),),
        ),
        "stages": (
            Stage(name="original", bytes=2000, accuracy=0.9),
            Stage(name=text, bytes=800, ratio=0.5, interval=(0.4, 0.6), notes=(text,)),
        ),
        "checks": (Check(text, True, text),),
        "warnings": (text,),
        "settings": {text: [text], "budget": {"keep": 0.4}},
        "promises": {},
        "sizes": {text: 8},
        "timings": {text: 1.0, "refit": 2.0},
        "peak_memory": 500_000_000,
        "files": (
            File(role="original", path=text, bytes=2000, sha256="a" * 64),
            File(role="result", path=f"{text}.onnx", bytes=800, sha256="b" * 64),
            File(role="plan", path=f"{text}.plan.json", bytes=80, sha256="c" * 64),
        ),
        "model_digest": "d" * 64,
        "data": (text,),
        "data_digest": "e" * 64,
        "environment": {"cpu": text, "packages": {"onnx": "1.0"}, "memory_bytes": 10**10},
        "class_names": (text, "other"),
    }
    return Report(**{**given, **changes})


def bare(**changes: Any) -> Report:
    """A report in which nothing that may be missing is there."""
    nothing: dict[str, Any] = {
        "command": "",
        "unread": None,
        "groups": (),
        "frozen": (),
        "quality": None,
        "latency": None,
        "operators": None,
        "stages": (),
        "checks": (),
        "warnings": (),
        "settings": {},
        "sizes": {},
        "timings": {},
        "peak_memory": None,
        "files": (),
        "data": (),
        "data_digest": None,
        "environment": {},
        "class_names": (),
    }
    return full(**{**nothing, **changes})
