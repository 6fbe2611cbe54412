"""Reports as one HTML file: no network, no fonts, nothing but text, style and pictures inside.

Autoescape is on, and every text loses the characters that steer terminals and the direction of
text. The page's own policy lets only the script run whose hash it names, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mipack import __version__
from mipack.report import charts
from mipack.report.answers import NOTICED, SLOWER, answers
from mipack.report.compare import Comparison
from mipack.report.record import Report
from mipack.report.scatter import scatter
from mipack.show.blocks import count, quotient, real, share, volume

TEMPLATES = Path(__file__).parent / "templates"
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def render(report: Report) -> str:
    """The page of one run."""
    latency = report.latency
    shapes = dict.fromkeys(entry.shape for entry in latency.timings) if latency else {}
    return _page(
        "report.html",
        report=report,
        answers=answers(report),
        network=charts.network(report.groups),
        histograms=[(s, charts.samples(latency.timings, s)) for s in shapes] if latency else [],
        ratios=charts.ratios(latency.contrasts) if latency else None,
        operators=charts.operator_bars(report.operators) if report.operators else None,
        slower=SLOWER,
        noticed=NOTICED,
    )


def render_comparison(comparison: Comparison) -> str:
    """The page that compares several runs."""
    return _page("compare.html", comparison=comparison, scatter=scatter(comparison))


def render_inspection(found: Mapping[str, Any]) -> str:
    """The page of a model's groups, from the document of `inspect`."""
    return _page("inspect.html", found=found, network=charts.structure(found["groups"]))


def _page(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "script.html").read_text(encoding="utf-8").strip()
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals.update(
        script=Markup(script), script_hash=Markup(hashed), version=__version__, quotient=quotient
    )
    made.filters.update(
        count=count, volume=volume, share=share, real=real, signed=_signed, plain=_plain
    )
    return made


def _shown(value: Any) -> Any:
    """Text without what steers a reader's eye or terminal; markup of ours as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _STEERING.sub("\N{REPLACEMENT CHARACTER}", value)
    return "-" if value is None else value


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}"


def _plain(value: Any) -> str:
    """Settings and facts as a person writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
