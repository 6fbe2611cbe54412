"""The methods of the quality benchmark: ours as options of `mipack prune`, peers as scripts.

Adding one of ours is a line of OURS; it appears with refit and, as NAME-plain, without. Adding a
peer is a script in peers/ (peers/job.py says what it is given) and a line of PEERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]
Candidates = Callable[[float], Sequence[Settings]]

OURS: dict[str, tuple[str, ...]] = {
    "mi": (),
    "mi-identity": ("--signal", "identity"),
    "mi-logits": ("--signal", "logits"),
    "mi-mixed": ("--signal", "mixed"),
    "mi-rounds": ("--iterations", "3"),
    "uniform": ("--allocate", "uniform"),
    "mi-layerwise": ("--criterion", "mi-layerwise"),
    "mipp": ("--criterion", "mipp"),
    "obs": ("--criterion", "obs"),
    "sdp": ("--criterion", "sdp"),
    "taylor": ("--criterion", "taylor"),
    "fisher": ("--criterion", "fisher"),
    "wanda": ("--criterion", "wanda"),
    "magnitude": ("--criterion", "magnitude"),
    "random": ("--criterion", "random"),
}
PLAIN = "-plain"
"""Ends the name of a method that leaves the weights as they are."""

LABELS: dict[str, tuple[str, ...]] = {
    "text": ("--label-column", "label"),
    "image": (),
}
NEEDS_LABELS = frozenset({"taylor"})
"""Criteria of ours that are given the labels of the calibration rows."""


@dataclass(frozen=True)
class Method:
    """One way to prune. `options` are ours; `script` and `candidates` (per kind of task, the
    settings from which the `choose` rows pick) are a peer's. `published` are the accuracies that
    peers.md reports by budget, for the calls it used, calibrated as there."""

    name: str
    options: tuple[str, ...] = ()
    labels: bool = False
    script: str = ""
    candidates: Mapping[str, Candidates] = field(default_factory=dict)
    published: Mapping[float, float] = field(default_factory=dict)

    @property
    def peer(self) -> bool:
        """Someone else's."""
        return bool(self.script)

    def suits(self, kind: str, judge: str, budget: float) -> bool:
        """Whether it has a say there: it prunes this kind of model, and what repeats a published
        figure is judged where that was measured, on test data."""
        if self.published and (judge != "test" or budget not in self.published):
            return False
        return not self.peer or kind in self.candidates


def _heads(budget: float) -> list[Settings]:
    """Shares of heads to cut, in twelfths, around what was best in the trials of peers.md, where
    the FFN can make up for the rest; the nearest first."""
    return [
        {"heads": heads / 12}
        for heads in sorted(range(12), key=lambda heads: abs(heads / 12 - (0.85 - budget)))
        if abs(heads / 12 - (0.85 - budget)) < 0.17 and 1.5 * budget - (1 - heads / 12) / 2 > 0.02
    ]


def _with(candidates: Candidates, **more: Any) -> Candidates:
    return lambda budget: [{**settings, **more} for settings in candidates(budget)]


def _fixed(*settings: Settings) -> Candidates:
    return lambda budget: settings


_CHANNELS = _fixed(
    {}, {"global": True}, {"wanda": True}, {"wanda": True, "global": True},
    {"wanda": True, "refit": True},
)  # fmt: skip
_KPRUNE = _fixed(*({"rep": rep, "mu": mu} for rep in (1e-5, 2.5e-4) for mu in (64, 16)))


def _torch_pruning(importance: str) -> dict[str, Candidates]:
    choices = _fixed({"importance": importance}, {"importance": importance, "global": True})
    return {"text": _with(_heads, importance=importance), "image": choices}


PEERS: dict[str, tuple[str, Mapping[str, Candidates]]] = {
    "onnxsim": ("run_onnxsim", {"text": _heads, "image": _CHANNELS}),
    "torch-pruning-l2": ("run_torch_pruning", _torch_pruning("l2")),
    "torch-pruning-taylor": ("run_torch_pruning", _torch_pruning("taylor")),
    "kwon": ("kwon", {"text": _fixed({})}),
    "k-prune": ("kprune", {"text": _KPRUNE}),
    "osscar": ("osscar", {"text": _heads, "image": _fixed({})}),
}


REPEATED: dict[str, tuple[str, dict[str, Any], dict[float, float], dict[float, float]]] = {
    "onnxsim": (
        "run_onnxsim", {}, {0.6: 0.25, 0.4: 1 / 3, 0.3: 0.5, 0.2: 2 / 3},
        {0.6: 0.8968, 0.4: 0.8708, 0.3: 0.8637, 0.2: 0.8262},
    ),
    "torch-pruning-taylor": (
        "run_torch_pruning", {"importance": "taylor"}, {0.6: 0.25, 0.4: 0.5, 0.3: 2 / 3},
        {0.6: 0.8752, 0.4: 0.8292, 0.3: 0.7883},
    ),
    "torch-pruning-l2": (
        "run_torch_pruning", {"importance": "l2"}, {0.6: 0.25, 0.4: 0.5, 0.3: 2 / 3},
        {0.6: 0.8195, 0.4: 0.7534, 0.3: 0.6502},
    ),
}  # fmt: skip
"""Calls of peers.md: script, settings, share of heads by budget, accuracy by budget."""
AGAIN = "-again"


def _again() -> dict[str, Method]:
    found = {}
    for name, (script, settings, heads, accuracy) in REPEATED.items():
        choice = _fixed_heads(settings, heads)
        found[name + AGAIN] = Method(name + AGAIN, (), False, script, {"text": choice}, accuracy)
    return found


def _fixed_heads(settings: Settings, heads: Mapping[float, float]) -> Candidates:
    return lambda budget: [{**settings, "heads": heads[budget]}]


def methods() -> dict[str, Method]:
    """Every method by name: ours with refit, ours without, peers."""
    found: dict[str, Method] = {}
    for suffix, more in (("", ()), (PLAIN, ("--no-refit",))):
        for name, options in OURS.items():
            labels = name in NEEDS_LABELS
            found[name + suffix] = Method(name + suffix, (*options, *more), labels)
    for name, (script, candidates) in PEERS.items():
        found[name] = Method(name, (), False, script, candidates)
    return found | _again()


def chosen(names: str) -> list[Method]:
    """A comma list of names and groups; SystemExit for a name that is none."""
    known = methods()
    groups = {
        "all": list(known),
        "ours": [name for name, method in known.items() if not method.peer],
        "refit": list(OURS),
        "peers": list(PEERS),
        "repeat": [name + AGAIN for name in REPEATED],
    }
    picked = [n for name in names.split(",") for n in groups.get(name, [name])]
    for name in picked:
        if name not in known:
            raise SystemExit(f"--methods {name}: not known; one of {', '.join([*groups, *known])}")
    return [known[name] for name in dict.fromkeys(picked)]
