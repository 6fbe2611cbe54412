"""Which last steps there are, and in which order they make sense.

The optimiser's patterns are float graphs: fusion comes first. A model has one precision.
"""

from __future__ import annotations

from collections.abc import Sequence

from mipack.errors import InputError

FUSE = "ort-fused"
STATIC = "int8-static"
DYNAMIC = "int8-dynamic"
HALF = "fp16"
PRECISIONS = (HALF, DYNAMIC, STATIC)
STEPS = (FUSE, *PRECISIONS)


def checked_steps(names: Sequence[str], *, data: bool) -> tuple[str, ...]:
    """The steps as given; `data` says whether there is calibration data.

    Raises InputError for an unknown or repeated step, two precisions, an order that cannot be, and
    static quantisation without data.
    """
    if not names:
        raise InputError("no step is given", hint=f"give some of {', '.join(STEPS)}")
    for name in names:
        if name not in STEPS:
            raise InputError(f"{name}: not a step", hint=f"the steps are {', '.join(STEPS)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{twice} is given twice", hint="give every step once")
    precisions = [name for name in names if name in PRECISIONS]
    if len(precisions) > 1:
        raise InputError(
            f"{' and '.join(precisions)} exclude each other: a model has one precision",
            hint="give one of them, and compare the results with mipack bench and eval",
        )
    if FUSE in names and names[0] != FUSE:
        raise InputError(
            f"{FUSE} cannot come after {names[0]}: the patterns it looks for are float graphs",
            hint=f"give {FUSE},{names[0]}",
        )
    if STATIC in names and not data:
        raise InputError(
            f"{STATIC} needs data to learn the ranges of activations from",
            hint="give --calib DATA, or int8-dynamic, which needs none",
        )
    return tuple(names)
