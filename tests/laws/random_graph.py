"""Random graphs: a dense layer, a chain of ops that move, mix and weigh its units, a dense layer.

The chain knows the symbolic shape of what it holds (ints are static, letters dynamic), so that
each step draws only what is legal. Targets of Reshape are spelled in all ways that exporters use:
numbers, 0, -1, and run-time sizes put together with Concat.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
from lawkit import Build
from onnx import TensorProto
from random_walk import Draw, Walk, divisors

Dim = int | str
LARGEST = 160


class Chain(Walk):
    """One tensor and its symbolic shape; `kept` holds earlier ones for residuals and products."""

    def __init__(self, build: Build, draw: Draw) -> None:
        super().__init__(build, draw)
        self.shape: list[Dim] = ["B", "S", self.pick([8, 12, 24, 36])]
        self.x = build.lin("x", 16, int(self.shape[-1]))
        self.kept: list[tuple[str, list[Dim]]] = []
        self.weights: dict[tuple[int, int], str] = {}

    def static(self, least: int = 2) -> list[int]:
        """Axes of static size."""
        return [k for k, d in enumerate(self.shape) if isinstance(d, int) and d >= least]

    def put(self, x: str, shape: list[Dim]) -> None:
        """Go on with another tensor."""
        self.x, self.shape = x, shape

    def step(self) -> bool:
        """Draw one op; False where it does not fit."""
        if self.draw(3) == 0:
            self.kept.append((self.x, self.shape))
        done = self.pick(STEPS)(self)
        return done is not False

    def close(self) -> str:
        """All static axes into one, and a dense layer on it."""
        dynamic = [k for k, d in enumerate(self.shape) if not isinstance(d, int)]
        static = [k for k, d in enumerate(self.shape) if isinstance(d, int)]
        x = self.b.Transpose(self.x, perm=[*dynamic, *static])
        width = prod(int(self.shape[k]) for k in static)
        target = [*(self.shape[k] for k in dynamic), width]
        return self.b.lin(self.b.Reshape(x, self.target(target, computed=True)), width, 5)

    def target(self, shape: list[Dim], *, computed: bool = False) -> str | list[int]:
        """The shape as an operand."""
        dynamic = [d for d in shape if not isinstance(d, int)]
        same = all(isinstance(d, int) or self.shape[k : k + 1] == [d] for k, d in enumerate(shape))
        if not computed and same and self.draw(2):
            copied = [0 if self.shape[k : k + 1] == [d] and self.draw(2) else d
                      for k, d in enumerate(shape)]  # fmt: skip
            return [0 if isinstance(d, str) else d for d in copied]
        if len(dynamic) <= 1 and self.draw(2):
            return [-1 if isinstance(d, str) else d for d in shape]
        sizes = {"B": np.int64(0), "S": np.int64(1)}
        shape_of = self.b.Shape("x")
        pieces = [
            [d] if isinstance(d, int) else self.b.Unsqueeze(self.b.Gather(shape_of, sizes[d]), [0])
            for d in shape
        ]
        return str(self.b.Concat(*pieces, axis=0))

    # ---------------------------------------------------------------- steps

    def unary(self) -> None:
        self.put(getattr(self.b, self.pick(["Relu", "Sigmoid", "Tanh", "Neg"]))(self.x), self.shape)

    def weigh(self) -> bool:
        """Multiply by a weight along some static axes."""
        axes = [k for k in self.static() if self.draw(2)]
        if not axes:
            return False
        sizes = [int(d) if k in axes else 1 for k, d in enumerate(self.shape)]
        weight = self.b.w(*sizes[min(axes) :], scale=1.0)
        self.put(getattr(self.b, self.pick(["Mul", "Add"]))(self.x, weight), self.shape)
        return True

    def split_axis(self) -> bool:
        axes = [k for k in self.static(4) if divisors(int(self.shape[k]))]
        if not axes or len(self.shape) > 5:
            return False
        axis = self.pick(axes)
        size = int(self.shape[axis])
        outer = self.pick(divisors(size))
        shape = [*self.shape[:axis], outer, size // outer, *self.shape[axis + 1 :]]
        self.put(self.b.Reshape(self.x, self.target(shape)), shape)
        return True

    def merge_axes(self) -> bool:
        pairs = [k for k in self.static() if k + 1 in self.static()]
        if not pairs:
            return False
        k = self.pick(pairs)
        shape = [*self.shape[:k], int(self.shape[k]) * int(self.shape[k + 1]), *self.shape[k + 2 :]]
        self.put(self.b.Reshape(self.x, self.target(shape)), shape)
        return True

    def regroup(self) -> bool:
        """[.., a, b, ..] -> [.., c, d, ..] with a b = c d."""
        pairs = [k for k in self.static() if k + 1 in self.static()]
        if not pairs:
            return False
        k = self.pick(pairs)
        size = int(self.shape[k]) * int(self.shape[k + 1])
        outer = self.pick(divisors(size))
        shape = [*self.shape[:k], outer, size // outer, *self.shape[k + 2 :]]
        self.put(self.b.Reshape(self.x, self.target(shape)), shape)
        return True

    def transpose(self) -> None:
        order = list(range(len(self.shape)))
        for k in range(len(order) - 1, 0, -1):
            j = self.draw(k + 1)
            order[k], order[j] = order[j], order[k]
        self.put(self.b.Transpose(self.x, perm=order), [self.shape[k] for k in order])

    def dense(self) -> bool:
        """A dense layer on the last axis; some share their weight, some hold it quantised."""
        if not isinstance(self.shape[-1], int):
            return False
        size = self.shape[-1], self.pick([6, 8, 12])
        kind = self.draw(4)
        if kind == 0:
            weight = self.weights.setdefault(size, self.b.w(*size))
        elif kind == 1:
            numbers = self.b.const(self.b.rng.integers(-90, 90, size), np.int8)
            weight = self.b.DequantizeLinear(numbers, self.b.positive(size[1]), axis=1)
            weight = self.b.Mul(weight, np.float32(0.01))
        else:
            weight = self.b.w(*size)
        product = self.b.MatMul(self.x, weight)
        self.put(self.b.Add(product, self.b.w(size[1], scale=0.3)), [*self.shape[:-1], size[1]])
        return True

    def attention(self) -> bool:
        """q, k and v packed in one matrix, taken apart by Gather or by Split."""
        if self.shape[:2] != ["B", "S"] or len(self.shape) != 3 or not self.static():
            return False
        heads, dims = self.pick([2, 4]), self.pick([3, 5])
        packed = self.b.lin(self.x, int(self.shape[2]), 3 * heads * dims)
        wide = self.b.Reshape(packed, [0, -1, 3, heads, dims])
        parts = self.b.Transpose(wide, perm=[2, 0, 3, 1, 4])
        if self.draw(2):
            q, k, v = (self.b.Gather(parts, np.int64(i), axis=0) for i in range(3))
        else:
            cut = self.b.Split(parts, n=3, axis=0, num_outputs=3)
            q, k, v = (self.b.Squeeze(part, [0]) for part in cut)
        self.put(self.b.attend(q, k, v, heads, dims), ["B", "S", heads * dims])
        return True

    def branch(self) -> None:
        """One body or the other, as data decides; one of them may hold a layer of its own."""
        x, size = self.x, self.shape[-1]
        weight = self.b.w(size, size) if isinstance(size, int) and self.draw(2) else None
        one = self.b.body(lambda: self.b.MatMul(x, weight) if weight else self.b.Tanh(x))
        other = self.b.body(lambda: self.b.Neg(x))
        positive = self.b.Greater(self.b.ReduceSum("x", keepdims=0), np.float32(0))
        self.put(self.b.If(positive, then_branch=one, else_branch=other), self.shape)

    def loop(self) -> bool:
        """A state that comes back, with or without a layer in the body."""
        size = self.shape[-1]
        if not isinstance(size, int):
            return False
        op, weight = self.pick([("MatMul", self.b.w(size, size)), ("Add", self.b.w(size))])

        def cell(_: str, go_on: str, state: str) -> tuple[str, str]:
            return self.b.Identity(go_on), self.b.Tanh(getattr(self.b, op)(state, weight))

        names = [f"{name}{self.b.count}" for name in ("round", "go_on", "state")]
        kinds = dict(
            zip(names, (TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT), strict=True)
        )
        rounds = self.b.const(2, np.int64)
        self.put(self.b.Loop(rounds, None, self.x, body=self.b.body(cell, **kinds)), self.shape)
        return True

    def dense_left(self) -> bool:
        """A square weight on the left: mixes the last axis but one, often into a residual."""
        size = self.shape[-2]
        if not isinstance(size, int):
            return False
        mixed = self.b.MatMul(self.b.w(size, size), self.x)
        self.put(self.b.Add(mixed, self.x) if self.draw(2) else mixed, self.shape)
        return True

    def piece(self) -> bool:
        axes = self.static(3)
        if not axes:
            return False
        axis = self.pick(axes)
        size = int(self.shape[axis])
        low = self.draw(size - 1)
        high = low + 1 + self.draw(size - low)
        high = min(high, size)
        ends = [high, high - size, 2**31] if high < size else [high, 2**31]
        end = self.pick([e for e in ends if e != 0 and (e < size or high == size)])
        start = self.pick([low, low - size])
        sliced = self.b.Slice(self.x, [start], [end], [self.pick([axis, axis - len(self.shape)])])
        self.put(sliced, [*self.shape[:axis], high - low, *self.shape[axis + 1 :]])
        return True

    def stride(self) -> bool:
        axes = [k for k in self.static(4) if int(self.shape[k]) % 2 == 0]
        if not axes:
            return False
        axis = self.pick(axes)
        start = self.draw(2)
        sliced = self.b.Slice(self.x, [start], [2**31], [axis], [2])
        self.put(sliced, [*self.shape[:axis], int(self.shape[axis]) // 2, *self.shape[axis + 1 :]])
        return True

    def flip(self) -> bool:
        if not self.static():
            return False
        axis = self.pick(self.static())
        self.put(self.b.Slice(self.x, [-1], [-(2**31)], [axis], [-1]), self.shape)
        return True

    def parts(self) -> bool:
        """Split in two and put together again, perhaps in the other order, perhaps multiplied."""
        axes = self.static(4)
        if not axes:
            return False
        axis = self.pick(axes)
        size = int(self.shape[axis])
        if size % 2 == 0 and self.draw(2):
            p, q = self.b.Split(self.x, n=2, axis=axis, num_outputs=2)
            half = [*self.shape[:axis], size // 2, *self.shape[axis + 1 :]]
            self.put(self.b.Mul(p, self.b.Sigmoid(q)), half)
            return True
        low = 1 + self.draw(size - 1)
        p, q = self.b.Split(self.x, [low, size - low], n=2, axis=axis)
        self.put(self.b.Concat(*([q, p] if self.draw(2) else [p, q]), axis=axis), self.shape)
        return True

    def double(self) -> bool:
        """Concatenate with a function of itself, or repeat."""
        if not self.static() or prod(int(self.shape[k]) for k in self.static()) > LARGEST:
            return False
        axis = self.pick(self.static())
        shape = [*self.shape]
        shape[axis] = 2 * int(self.shape[axis])
        if self.draw(2):
            repeats = [2 if k == axis else 1 for k in range(len(shape))]
            self.put(self.b.Tile(self.x, repeats), shape)
        else:
            self.put(self.b.Concat(self.x, self.b.Sigmoid(self.x), axis=axis), shape)
        return True

    def pad(self) -> bool:
        if not self.static():
            return False
        axis, amounts = self.pick(self.static()), [self.draw(3), self.draw(3)]
        mode = self.pick(["constant", "constant", "edge"])
        padded = self.b.Pad(self.x, amounts, np.float32(0.5), [axis], mode=mode)
        shape = [*self.shape]
        shape[axis] = int(self.shape[axis]) + sum(amounts)
        self.put(padded, shape)
        return True

    def reduce(self) -> bool:
        """A reduction, multiplied back or in place of the tensor."""
        if not self.static():
            return False
        axis = self.pick(self.static())
        op = self.pick(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceSumSquare"])
        if self.draw(2):
            self.put(self.b.Mul(self.x, getattr(self.b, op)(self.x, [axis])), self.shape)
        else:
            reduced = getattr(self.b, op)(self.x, [axis], keepdims=0)
            self.put(reduced, [*self.shape[:axis], *self.shape[axis + 1 :]])
        return bool(self.static()) or self.unsqueeze()

    def unsqueeze(self) -> bool:
        """A new axis, broadcast by a weight or expanded."""
        if len(self.shape) > 4:
            return False
        axis, size = self.draw(len(self.shape) + 1), self.pick([2, 3, 4])
        x = self.b.Unsqueeze(self.x, [axis])
        after = len(self.shape) - axis
        if self.draw(2):
            x = self.b.Mul(x, self.b.w(size, *[1] * after, scale=1.0))
        else:
            x = self.b.Expand(x, [size, *[1] * after])
        self.put(x, [*self.shape[:axis], size, *self.shape[axis:]])
        return True

    def select(self) -> bool:
        """One unit, or a list of them."""
        axes = self.static(3)
        if not axes:
            return False
        axis = self.pick(axes)
        size = int(self.shape[axis])
        if self.draw(2) and len(axes) > 1:
            at = np.int64(self.draw(2 * size) - size)
            self.put(
                self.b.Gather(self.x, at, axis=axis), [*self.shape[:axis], *self.shape[axis + 1 :]]
            )
            return True
        listed = [self.draw(size) for _ in range(self.pick([1, 3]))]
        self.put(self.b.Gather(self.x, listed, axis=axis),
                 [*self.shape[:axis], len(listed), *self.shape[axis + 1 :]])  # fmt: skip
        return bool(self.static())

    def normalise(self) -> bool:
        """Softmax, a norm or a running sum along a static axis."""
        if not self.static():
            return False
        axis = self.pick(self.static())
        op = self.draw(3)
        if op == 0:
            self.put(self.b.Softmax(self.x, axis=axis), self.shape)
        elif op == 1:
            self.put(self.b.CumSum(self.x, np.int64(axis)), self.shape)
        elif isinstance(self.shape[-1], int) and self.shape[-1] > 1:
            norm = self.pick(["LayerNormalization", "SimplifiedLayerNormalization"])
            scale = self.b.w(self.shape[-1])
            self.put(getattr(self.b, norm)(self.x, scale), self.shape)
        return True

    def residual(self) -> bool:
        """Meet an earlier tensor of the same shape."""
        same = [x for x, shape in self.kept if shape == self.shape and x != self.x]
        if not same:
            return False
        self.put(
            getattr(self.b, self.pick(["Add", "Mul", "Max"]))(self.x, self.pick(same)), self.shape
        )
        return True

    def product(self) -> bool:
        """x x' contracted over the last axis, and again with x: attention without weights."""
        if len(self.shape) < 3:
            return False
        order = [*range(len(self.shape) - 2), len(self.shape) - 1, len(self.shape) - 2]
        scores = self.b.MatMul(self.x, self.b.Transpose(self.b.Sigmoid(self.x), perm=order))
        mixed = self.b.MatMul(scores, self.x)
        self.put(self.b.Mul(mixed, np.float32(1e-2)), self.shape)
        return True

    def merge_batch(self) -> bool:
        """[B, n, ..] -> [B n, ..], something there, and back; the product is computed."""
        if self.shape[0] != "B" or len(self.shape) < 3 or not isinstance(self.shape[1], int):
            return False
        count = self.shape[1]
        rows = self.b.Gather(self.b.Shape("x"), [0])
        merged = self.b.Mul(rows, [count]) if self.draw(2) else self.b.const([-1])
        rest = [np.int64(1) if d == "S" else [d] for d in self.shape[2:]]
        pieces = [
            d if isinstance(d, list) else self.b.Gather(self.b.Shape("x"), [int(d)]) for d in rest
        ]
        before = self.shape
        self.put(self.b.Reshape(self.x, self.b.Concat(merged, *pieces, axis=0)), self.shape[1:])
        self.pick([Chain.product, Chain.unary])(self)
        back = self.b.Concat(rows, [count], *pieces, axis=0)
        self.put(self.b.Reshape(self.x, back), before)
        return True

    def shape_of(self) -> None:
        """Divide by a size read from the tensor itself."""
        axis = self.draw(len(self.shape))
        size = self.b.Cast(self.b.Gather(self.b.Shape(self.x), np.int64(axis)), to=1)
        self.put(self.b.Div(self.x, size), self.shape)


# fmt: off
STEPS: list[Callable[[Chain], object]] = [
    Chain.unary, Chain.weigh, Chain.split_axis, Chain.split_axis, Chain.merge_axes, Chain.regroup,
    Chain.transpose, Chain.transpose, Chain.dense, Chain.dense_left, Chain.piece, Chain.stride,
    Chain.flip, Chain.parts, Chain.double, Chain.pad, Chain.reduce, Chain.unsqueeze, Chain.select,
    Chain.normalise, Chain.residual, Chain.residual, Chain.product, Chain.shape_of,
    Chain.merge_batch, Chain.attention, Chain.branch, Chain.loop,
]
# fmt: on


def random_graph(draw: Draw, steps: int) -> tuple[Build, str]:
    """A builder and its output."""
    chain = Chain(Build(x=("B", "S", 16)), draw)
    for _ in range(steps):
        chain.step()
    return chain.b, chain.close()
