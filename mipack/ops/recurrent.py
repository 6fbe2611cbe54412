"""LSTM, GRU, RNN: hidden units live in every gate; gates and directions are frozen."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import Term
from mipack.ops.registry import rule

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
PEEPHOLES = 3


@rule("LSTM", "GRU", "RNN", "com.microsoft::DynamicQuantizeLSTM")
def recurrent(n: NodeView) -> None:
    """W [D, gates x H, in], R [D, gates x H, H], B [D, 2 gates x H], P [D, 3 x H]; states H.

    Quantised, W and R have their last axes exchanged.
    """
    if n.attr("layout", 0):
        n.freeze_all("batch-first layout")
        return
    x, w, r = n.x(0), n.x(1), n.x(2)
    if n.op == "DynamicQuantizeLSTM":
        w, r = [w[0], w[2], w[1]], [r[0], r[2], r[1]]
    gates, directions, hidden = GATES[n.op], w[0], n.atom(int(n.attr("hidden_size")))
    n.freeze(directions, "directions")
    n.freeze(x[0], "steps")  # a step that is left out is not a step of zeros
    _gated(n, w[1], gates, hidden)
    _gated(n, r[1], gates, hidden)
    n.eq(x[2], w[2])
    n.eq(r[2], hidden)
    n.eq(r[0], directions)
    for slot, count in ((3, 2 * gates), (7, PEEPHOLES)):
        if n.has(slot):
            n.eq(n.x(slot)[0], directions)
            _gated(n, n.x(slot)[1], count, hidden)
    if n.has(4):
        n.eq(n.x(4)[0], x[1])
    for slot in (5, 6):
        if n.has(slot):
            state = n.x(slot)
            n.eq(state[0], directions)
            n.eq(state[1], x[1])
            n.eq(state[2], hidden)
    _scaled(n, directions, gates, hidden)
    _results(n, directions, hidden)
    n.encode("hidden_size", None, hidden)
    for walked in (x[2], hidden):
        n.together(walked)
    n.macs(x[0], x[1], *w)
    n.macs(x[0], x[1], *r)


def _gated(n: NodeView, term: Term, count: int, hidden: Term) -> None:
    gate = n.atom(count)
    n.freeze(gate, "gates")
    n.eq(term, n.prod(gate, hidden))


def _scaled(n: NodeView, directions: Term, gates: int, hidden: Term) -> None:
    """Scales and zero points of W and R, one for a direction or one for every column.

    A scale of a column is what silences a unit in the proof: where there is none, units stay.
    """
    for slot in range(8, len(n.inputs)):
        own = n.x(slot)
        n.eq(own[0], directions)
        if len(own) > 1:
            _gated(n, own[1], gates, hidden)
        else:
            n.freeze(hidden, "one scale for all units")


def _results(n: NodeView, directions: Term, hidden: Term) -> None:
    """Y [steps, D, batch, H]; Y_h and Y_c [D, batch, H]."""
    x = n.x(0)
    for j in range(len(n.outputs)):
        y = n.y(j)
        if y:
            n.eq(y[-1], hidden)
            n.eq(y[-2], x[1])
            n.eq(y[-3], directions)
        if j == 0 and y:
            n.eq(y[0], x[0])
