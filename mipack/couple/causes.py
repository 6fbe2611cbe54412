"""Why units are frozen, in four classes: what may ever be cut, and what is left undone.

* interface: the model's signature, which belongs to others;
* runtime-unknown: indices, orders, bounds or ranks that only a run shows;
* geometry: axes that hold no units (spatial axes, gates, directions, phases of a stride);
* rule missing: all else, an op without a rule or a form that its rule does not follow.

A reason that no pattern here knows counts as a missing rule, so that nothing is excused unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

INTERFACE, RUNTIME, GEOMETRY, MISSING = "interface", "runtime-unknown", "geometry", "rule missing"
CAUSES = (INTERFACE, RUNTIME, GEOMETRY, MISSING)
_PATTERNS = {
    INTERFACE: ("interface: .*",),
    RUNTIME: (
        "indexed( by data)?",
        "scattered",
        ".*(chosen|computed) at run time",
        "slice with run-time bounds",
        "positions (of this axis )?become data",
        "order matters",
        "numbers drawn at run time",
        "changes (size|rank) from round to round",
        "the order of the parts depends on the sizes",
        "static part of a concatenation of dynamic size",
        "the shape of .* is not known",
        ".* is no tensor of one rank",
        ".* is empty in (a|one) probe",
    ),
    GEOMETRY: (
        "spatial axis",
        "gates",
        "directions",
        "steps",
        "triangle",
        "a table of several layers",
        "rounds",
        "features are counted by attributes",
        "padded axis",
        "cropped or padded axis",
        "(block of a|padded block of a|packed numbers of a block|packed zero points).*",
        "stride of a slice",
        "shape arithmetic",
        "keys and values of all steps",
        "only a whole block may go",
        "channels packed for one machine",
        "fixed by the function body",
    ),
}
_KNOWN = {
    cause: re.compile(rf"(?:{'|'.join(patterns)})(?: \[\S+ .*\])?", re.DOTALL)
    for cause, patterns in _PATTERNS.items()
}


def cause_of(reasons: Iterable[str]) -> str:
    """The class of what holds an atom: one good reason is enough, whatever else is missing."""
    listed = tuple(reasons)
    met = (c for c, known in _KNOWN.items() if any(known.fullmatch(r) for r in listed))
    return next(met, MISSING) if listed else ""
