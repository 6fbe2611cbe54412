"""Nothing depends on names or on the order in which an exporter wrote the nodes.

Every node, inner tensor and initializer gets another name and the nodes another order: the groups
stay (sizes, kinds, MACs, reasons but for the names in them), and cutting the same units gives a
model with the same outputs, hence the same accuracy.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from scramble import scramble

from mipack.couple.solve import Coupling, Group
from mipack.data.dataset import ReadOptions
from mipack.graph.load import runnable
from mipack.layout import Term, find, leaves
from mipack.prepare import Prepared, open_model, prepare, read_data
from mipack.runtime.session import Session
from mipack.surgery.cut import cut
from mipack.surgery.keep import Keep
from mipack.verify.oracle import distance
from mipack.verify.trials import random_keep

SHARED = Path(__file__).resolve().parents[3] / "shared"
ZOO = (
    "bert_op11_dropout", "densenet_ts", "functions_hand", "gpt2_ts", "if_branches", "inception_ts",
    "llama_ts", "mobilenetv2_ts", "resnext_dyn", "swin_dyn", "t5_encdec_dyn", "moe_loop_ts",
)  # fmt: skip
CASES = {
    "MiniLM": (SHARED / "models" / "minilm-sst2", SHARED / "data" / "sst2" / "dev.tsv"),
    "ResNet-56": (SHARED / "models" / "resnet56-cifar10", SHARED / "data" / "cifar10" / "test.zip"),
    **{name: (SHARED / "zoo" / name, SHARED / "zoo" / name / "calib") for name in ZOO},
}
SAMPLES = 6
Place = frozenset[tuple[str, int, int]]
"""Where an atom is met: (matrix, axis, place among the axis' leaves), in the original's names."""


@dataclass(frozen=True)
class Understood:
    """A prepared model; `old` maps its names to the original's."""

    prepared: Prepared
    old: dict[str, str]

    @property
    def coupling(self) -> Coupling:
        return self.prepared.coupling

    def place(self, atom: Term) -> Place:
        """The atom without its name; only matrices count: vectors are copied per use."""
        found = set()
        for name, array in self.coupling.constants.items():
            if array.ndim < 2 or name not in self.coupling.axes:
                continue
            for axis, term in enumerate(self.coupling.axes[name]):
                row = leaves(term)
                if find(atom) in row:
                    found.add((self.old.get(name, name), axis, row.index(find(atom))))
        return frozenset(found)

    @property
    def groups(self) -> dict[Place, Group]:
        found = {self.place(group.atom): group for group in self.coupling.groups}
        assert len(found) == len(self.coupling.groups)
        return found


@cache
def original(name: str) -> tuple[onnx.ModelProto, Understood]:
    folder, _ = CASES[name]
    proto = onnx.load(folder / "model.onnx")
    return proto, understood(name, proto, {})


def understood(name: str, proto: onnx.ModelProto, old: dict[str, str]) -> Understood:
    folder, data = CASES[name]
    options = ReadOptions(samples=SAMPLES, text_column="sentence" if name == "MiniLM" else None)
    model = open_model(proto)
    return Understood(prepare(proto, read_data(folder / "model.onnx", model, data, options)), old)


@cache
def scrambled(name: str, sort: bool) -> Understood:
    proto, new = scramble(original(name)[0], 7, sort=sort)
    return understood(name, proto, {b: a for a, b in new.items()})


def nameless(reasons: tuple[str, ...]) -> frozenset[str] | None:
    """Reasons without node names; None where so many were met that some were dropped."""
    if len(reasons) >= 4:
        return None
    return frozenset(re.sub(r"\[(\S+) [^\]]*\]", r"[\1]", reason) for reason in reasons)


def facts(group: Group) -> tuple[object, ...]:
    return (
        group.size,
        group.kind,
        group.macs,
        sorted(context.size for context in group.within),
        nameless(group.frozen),
        nameless(group.width),
        bool(group.frozen),
        bool(group.width),
    )


def translated(ours: Understood, theirs: Understood, keep: Keep) -> Keep:
    """The same kept units for the other model; contexts may come in another order there."""
    groups = theirs.groups
    tables, within = {}, {}
    for atom, table in keep.tables.items():
        twin = groups[ours.place(atom)]
        order = [ours.place(context) for context in keep.within.get(atom, ())]
        places = [order.index(theirs.place(context)) for context in twin.within]
        tables[twin.atom] = np.transpose(table, [*places, len(places)])
        if twin.within:
            within[twin.atom] = twin.within
    return Keep(tables, within)


def outputs(understood: Understood, keep: Keep) -> list[dict[str, np.ndarray]]:
    with runnable(cut(understood.coupling, keep)) as source:
        session = Session(source, optimize=False)
    dataset = understood.prepared.dataset
    assert dataset is not None
    return [session.run(batch.feeds) for batch in dataset.batches(SAMPLES)]


@pytest.mark.parametrize("sort", [True, False], ids=["reordered", "unsorted"])
@pytest.mark.parametrize("name", CASES)
def test_names_and_order_mean_nothing(shared: Path, name: str, sort: bool) -> None:
    _, ours = original(name)
    theirs = scrambled(name, sort)
    before, after = ours.groups, theirs.groups
    assert before.keys() == after.keys()
    for place, group in before.items():
        assert facts(group) == facts(after[place]), group.name
    assert Counter(map(len, before)) == Counter(map(len, after))
    keep = random_keep(
        [g for g in before.values() if not (g.frozen or g.width)], np.random.default_rng(3)
    )
    for a, b in zip(
        outputs(ours, keep), outputs(theirs, translated(ours, theirs, keep)), strict=True
    ):
        assert all(distance(a[key], b[key]) <= 1e-5 for key in a)
