"""The five questions that a report answers on its first page, each in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipack.report.record import Report
from mipack.show.blocks import share

SLOWER = 1.05
"""An operator or a node that takes this much more of its former time is called slower."""
NOTICED = 0.01
"""And only if it takes this share of a run."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question, the answer in lines, and the section that tells more."""

    question: str
    lines: tuple[str, ...]
    section: str


def answers(report: Report) -> tuple[Answer, ...]:
    """All five, in the order in which they are asked."""
    verdict = report.verdict
    return (
        Answer(
            "May we ship this?", tuple(r[:1].upper() + r[1:] for r in verdict.reasons), "checks"
        ),
        Answer("What got slower?", slower(report), "latency"),
        Answer("Which inputs changed their answer?", changed(report), "changes"),
        Answer("How do I reproduce it?", reproduce(report), "reproduce"),
        Answer("How do I roll back?", rollback(report), "rollback"),
    )


def slower(report: Report) -> tuple[str, ...]:
    """Shapes, operators and nodes that take longer than before."""
    if report.latency is None:
        told = _promised(report)
        nothing = "Nothing else" if told else "Nothing"
        return (*told, f"{nothing} was timed: run the same command with --bench added.")
    lines = [
        f"{entry.shape}: {entry.ratio:.3f} of the original's time "
        f"({entry.interval[0]:.3f} to {entry.interval[1]:.3f})" + _words(entry.interval)
        for entry in report.latency.contrasts
    ]
    if report.latency.warning is not None:
        lines.append("The machine was noisy: repeat it before you rely on these times.")
    return (*lines, *_slower_operators(report))


def _slower_operators(report: Report) -> tuple[str, ...]:
    if report.operators is None:
        return ()
    total = sum(row.before_ms for row in report.operators.ops)
    grown = [
        f"{row.op} ({row.before_ms:.3g} to {row.after_ms:.3g} ms)"
        for row in report.operators.ops
        if row.after_ms > SLOWER * row.before_ms and row.after_ms - row.before_ms > NOTICED * total
    ]
    if not grown:
        return ("No operator takes noticeably longer than before.",)
    return (f"Operators that take longer: {', '.join(grown)}.",)


def _promised(report: Report) -> tuple[str, ...]:
    """What --latency measured on the way."""
    told = report.promises.get("latency")
    ratio = told.get("ratio") if isinstance(told, Mapping) else None
    if not isinstance(ratio, float):
        return ()
    return (f"While it was pruned it was measured at {ratio:.3f} of the original's time.",)


def _words(interval: tuple[float, float]) -> str:
    if interval[0] > 1:
        return ": slower"
    return ": faster" if interval[1] < 1 else ": no difference that could be told"


def changed(report: Report) -> tuple[str, ...]:
    """How many answers are others, and where they are listed."""
    quality = report.quality
    if quality is None:
        return ("Not measured: there was no calibration data.",)
    found = quality.changes
    if found is None:
        return (f"Not told: {quality.samples:,} samples, but no output that answers for each.",)
    if not found.count:
        if found.listed:
            worst = found.listed[0].distance or 0.0
            return (
                f"The output {found.output} gives values, no answers: of {found.rows:,} samples "
                f"the one that moved most moved by {share(worst)} of its length.",
            )
        return (f"None of {found.rows:,} held-out answers.",)
    part = share(found.count / found.rows)
    return (f"{found.count:,} of {found.rows:,} held-out answers ({part}), listed below.",)


def reproduce(report: Report) -> tuple[str, ...]:
    """What to run, and what to compare."""
    original, result = report.file("original"), report.file("result")
    lines = ["Run the command below with the versions and the data named there."]
    if original is not None and result is not None:
        lines.append(
            f"sha256 of the original {original.sha256[:12]}…, of the result {result.sha256[:12]}…: "
            "on the same machine the result is the same, byte for byte."
        )
    return tuple(lines)


def rollback(report: Report) -> tuple[str, ...]:
    """How to go back to the original."""
    original = report.file("original")
    where = f" {original.path} (sha256 {original.sha256[:12]}…)" if original else ""
    if report.signature_changed:
        return (
            f"Serve the original{where} again, and give callers back its inputs and outputs: "
            "the pruned model has others.",
        )
    return (
        f"Serve the original{where} again: inputs and outputs are the same, no caller changes. "
        "Pruning did not touch it.",
    )
