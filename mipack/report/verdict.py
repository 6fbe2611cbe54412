"""May this be shipped? A report's own answer, and what speaks for and against it.

Only a bound that the user set makes a plain "yes" (`--max-drop`, held on samples that decided
nothing else); without one a person has to say what may be lost, and the figures to say it by are
listed. A failed check makes a "no".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mipack.report.record import Latency, Quality, Report, Stage, Verdict

AGREES = 0.98
"""Fewer answers in common than this speak against shipping where nobody set a bound."""


def verdict(report: Report) -> Verdict:
    """The answer from what was measured, whatever verdict the report has."""
    checks, quality, promises = report.checks, report.quality, report.promises
    failed = [check for check in checks if not check.passed]
    if failed:
        reasons = tuple(f"failed: {check.name} ({check.detail})" for check in failed)
        return Verdict(answer="no", headline="No: a check failed", reasons=reasons)
    held = promises.get("drop")
    against = [*_odd(quality), *_finishing(report.stages), *_speed(report.latency)]
    if held is None:
        against = [*_lost(quality), *against]
    if report.signature_changed:
        against.append("its inputs or outputs are not those of the original: callers must change")
    proven = f"all {len(checks)} checks passed"
    if isinstance(held, Mapping) and not against:
        return Verdict(
            answer="yes",
            headline="Yes: it is proven, and it loses no more than was allowed",
            reasons=(proven, _promised(held), *_doubt(quality)),
        )
    if against:
        headline = "Look first: the cut is proven, but something speaks against it"
    elif quality is None:
        headline = "Look first: the cut is proven, but nothing was measured on data"
        against = ["there was no calibration data: measure the answers with mipack eval"]
    else:
        headline = "Probably: the cut is proven and little changed, but nobody set a bound"
        against = ["say what may be lost with --max-drop, or judge by the figures below"]
    return Verdict(answer="look", headline=headline, reasons=(*against, *_doubt(quality), proven))


def _promised(drop: Mapping[str, Any]) -> str:
    points = drop.get("points")
    lost = f"{points:.2f}" if isinstance(points, float) else "?"
    return (
        f"it loses {lost} points of {drop.get('metric')} on {drop.get('answers')} samples that "
        "decided nothing else"
    )


def _lost(quality: Quality | None) -> list[str]:
    """What was lost, where nobody said how much may be."""
    if quality is None:
        return []
    found, score = [], quality.score
    if score is not None and score.interval is not None:
        low, high = score.interval
        worse = high < 0 if score.unit == "points" else low > 0  # an error is better small
        if worse:
            found.append(
                f"{score.metric} is surely worse: {score.difference:+.2f} {score.unit} "
                f"({low:+.2f} to {high:+.2f})"
            )
    agreement = quality.fidelity[0].agreement if quality.fidelity else None
    if agreement is not None and agreement < AGREES:
        found.append(
            f"only {100 * agreement:.1f} % of {quality.fidelity[0].rows:,} held-out answers are "
            "those of the original"
        )
    return found


def _odd(quality: Quality | None) -> list[str]:
    odd = sum(entry.nonfinite for entry in quality.fidelity) if quality else 0
    return [f"{odd:,} samples give NaN or infinity where the original does not"] if odd else []


def _finishing(stages: Sequence[Stage]) -> list[str]:
    """What the last step of finishing did to the answers."""
    last = stages[-1] if stages else None
    if last is None or last.agreement is None or last.agreement >= AGREES:
        return []
    return [f"after {last.name} only {100 * last.agreement:.1f} % of the answers are the same"]


def _doubt(quality: Quality | None) -> list[str]:
    """What so few samples cannot rule out."""
    if quality is None:
        return []
    score = quality.score
    if score is not None and score.interval is not None and score.unit == "points":
        most = -score.interval[0]
        text = f"on {quality.samples:,} held-out samples a loss of {most:.1f} points of "
        text += f"{score.metric} cannot be ruled out: judge on more with mipack eval"
        return [text] if most > 0 else []
    if quality.interval is None:
        return []
    return [
        f"on {quality.fidelity[0].rows:,} held-out answers an agreement of "
        f"{100 * quality.interval[0]:.1f} % cannot be ruled out: judge on more with mipack eval"
    ]


def _speed(latency: Latency | None) -> list[str]:
    """Shapes on which it is surely slower."""
    return [
        f"slower on {entry.shape}: {entry.ratio:.3f} of the time ({entry.interval[0]:.3f} to "
        f"{entry.interval[1]:.3f})"
        for entry in (latency.contrasts if latency else ())
        if entry.interval[0] > 1
    ]
