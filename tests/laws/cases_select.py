"""Slices, gathers and scatters: pieces of sums, and what freezes because it counts positions."""

from __future__ import annotations

import numpy as np
from lawkit import IMAGES, TOKENS, Build, Cases

selections = Cases()
FAR = 2**31


@selections(opsets=(9,), cut=[10, 14])
def slices_by_attributes(b: Build) -> str:
    h = b.lin("x", 16, 24)
    p = b.Slice(h, starts=[0], ends=[10], axes=[1])
    q = b.Slice(h, starts=[-14], ends=[FAR], axes=[-1])
    return b.Add(b.lin(b.Sigmoid(p), 10, 5), b.lin(b.Cos(q), 14, 5))


@selections(opsets=(10, 13, 18), cut=[10, 14])
def slices_by_operands(b: Build) -> str:
    h = b.lin("x", 16, 24)
    p, q = b.Slice(h, [0], [-14], [1]), b.Slice(h, [10], [FAR], [-1], [1])
    return b.Add(b.lin(b.Sigmoid(p), 10, 5), b.lin(b.Cos(q), 14, 5))


@selections(cut=[6, 4, 14])
def overlapping_slices(b: Build) -> str:
    h = b.lin("x", 16, 24)
    p, q = b.Slice(h, [0], [10], [1]), b.Slice(h, [6], [24], [1])
    return b.Add(b.lin(b.Sigmoid(p), 10, 5), b.lin(b.Cos(q), 18, 5))


@selections(cut=[24], x=("B", "S", 16))
def a_slice_of_everything(b: Build) -> str:
    """Bounds at or beyond the end, from the far left: nothing to write down."""
    h = b.Slice(b.lin("x", 16, 24), [0, -24], [FAR, FAR], [1, 2])
    return b.lin(b.Slice(h, [-99, 0], [99, 24], [1, 2]), 24, 5)


@selections(cut=[24], x=("B", "S", 16))
def the_first_position_of_a_sequence(b: Build) -> str:
    h = b.Slice(b.Sigmoid(b.lin("x", 16, 24)), [0], [1], [1])
    return b.lin(b.Squeeze(h, [1]), 24, 5)


@selections(cut=[24], x=("B", "S", 16))
def all_but_the_last_position(b: Build) -> str:
    return b.lin(b.Slice(b.Sigmoid(b.lin("x", 16, 24)), [0], [-1], [1]), 24, 5)


@selections(cut=[4, 20], x=(3, 16))
def axes_left_out_are_the_first(b: Build) -> str:
    h = b.lin("x", 16, 24)
    p, q = b.Slice(h, [0, 0], [3, 4]), b.Slice(h, [0, 4], [3, 24])
    return b.Add(b.lin(b.Sigmoid(p), 4, 5), b.lin(b.Cos(q), 20, 5))


@selections(cut=[12])
def halves_of_a_gate(b: Build) -> str:
    t = b.lin("x", 16, 24)
    return b.lin(b.Mul(b.Slice(t, [0], [12], [1]), b.Sigmoid(b.Slice(t, [12], [24], [1]))), 12, 5)


@selections(cut=[12], stays={2: "stride"})
def interleaved_parts_of_a_gate(b: Build) -> str:
    t = b.lin("x", 16, 24)
    even, odd = b.Slice(t, [0], [24], [1], [2]), b.Slice(t, [1], [FAR], [1], [2])
    return b.lin(b.Mul(even, b.Sigmoid(odd)), 12, 5)


@selections(stays={2: "stride"})
def halves_and_interleaved_parts(b: Build) -> str:
    t = b.lin("x", 16, 48)
    halves = b.Mul(b.Slice(t, [0], [24], [1]), b.Sigmoid(b.Slice(t, [24], [48], [1])))
    woven = b.Mul(
        b.Slice(t, [0], [48], [1], [2]), b.Sigmoid(b.Slice(t, [1], [48], [1], [2]))
    )  # fmt: skip
    return b.Add(b.lin(halves, 24, 5), b.lin(woven, 24, 5))


@selections(opsets=(10, 18), cut=[3, 2], stays={7: "stride"})
def a_stride_that_does_not_divide(b: Build) -> str:
    """Units 0, 7, 14 and 21; the last is picked from a block of 3."""
    return b.lin(b.Sigmoid(b.Slice(b.lin("x", 16, 24), [0], [24], [1], [7])), 4, 5)


@selections(cut=[6, 4, 6], stays={3: "stride"})
def a_stride_from_within(b: Build) -> str:
    """Units 7, 10, .. 16 lie in the blocks 6 to 18: those before and after may go."""
    h = b.Sigmoid(b.lin("x", 16, 24))
    return b.Add(b.lin(b.Slice(h, [7], [18], [1], [3]), 4, 5), b.lin(h, 24, 5))


@selections(cut=[4], stays={2: "stride", 3: "stride"})
def a_stride_to_within_the_last_block(b: Build) -> str:
    """Units 1, 4, .. 13 of 14: the 12th is behind the blocks, and its number is counted on."""
    h = b.Sigmoid(b.lin("x", 16, 14))
    return b.Add(b.lin(b.Slice(h, [1], [14], [1], [3]), 5, 5), b.lin(h, 14, 5))


@selections(cut=[12, 11])
def a_step_beyond_the_end(b: Build) -> str:
    """One unit is picked, alone."""
    h = b.Sigmoid(b.lin("x", 16, 24))
    return b.Add(b.Slice(h, [12], [24], [1], [50]), b.lin(h, 24, 5))


@selections(cut=[], stays={24: "order matters"})
def reversed_units(b: Build) -> str:
    return b.lin(b.Slice(b.lin("x", 16, 24), [-1], [-FAR], [1], [-1]), 24, 5)


@selections(cut=[], stays={24: "run"})
def reversed_by_data(b: Build) -> str:
    """The step is not known: it may well be -1."""
    zero = b.Cast(b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0)), to=7)
    step = b.Unsqueeze(b.Sub(zero, np.int64(1)), [0])
    return b.lin(b.Slice(b.Sigmoid(b.lin("x", 16, 24)), [-1], [-FAR], [1], step), 24, 5)


@selections(cut=[], stays={24: "chosen at run time"}, x=(3, 16))
def axes_by_data(b: Build) -> str:
    zero = b.Cast(b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0)), to=7)
    axis = b.Unsqueeze(b.Add(zero, np.int64(1)), [0])
    return b.lin(b.Slice(b.lin("x", 16, 24), [0], [20], axis), 20, 5)


@selections(cut=[], stays={24: "run-time bounds", 20: "run-time bounds"})
def bounds_by_data(b: Build) -> str:
    zero = b.Cast(b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0)), to=7)
    start = b.Unsqueeze(b.Add(zero, np.int64(2)), [0])
    end = b.Unsqueeze(b.Add(zero, np.int64(22)), [0])
    return b.lin(b.Slice(b.lin("x", 16, 24), start, end, [1]), 20, 5)


@selections(cut=[12])
def bounds_from_the_shape(b: Build) -> str:
    """x[.., :n/2] and x[.., n/2:] with n read from the tensor itself."""
    t = b.lin("x", 16, 24)
    half = b.Div(b.Shape(t, start=1), [2])
    gate = b.Sigmoid(b.Slice(t, half, b.const([FAR]), [1]))
    return b.lin(b.Mul(b.Slice(t, [0], half, [1]), gate), 12, 5)


@selections(x=("B", "S", 16))
def rotary_halves(b: Build) -> str:
    """rotate_half: -x[D/2:] before x[:D/2], per head."""
    angles = b.w(1, 1, 4, scale=1.0)
    table = b.Concat(angles, angles, axis=2)

    def turn(t: str) -> str:
        low, high = b.Slice(t, [0], [4], [3]), b.Slice(t, [4], [FAR], [3])
        turned = b.Concat(b.Neg(high), low, axis=3)
        return str(b.Add(b.Mul(t, b.Cos(table)), b.Mul(turned, b.Sin(table))))

    q, k, v = (b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3))
    return b.lin(b.attend(turn(q), turn(k), v, 4, 8), 32, 5)


@selections(x=("B", "S", 16))
def rotary_pairs(b: Build) -> str:
    """Interleaved: even and odd dims, stacked back."""
    angle = b.w(1, 4, scale=1.0)

    def turn(t: str) -> str:
        even = b.Slice(t, [0], [FAR], [3], [2])
        odd = b.Slice(t, [1], [FAR], [3], [2])
        first = b.Sub(b.Mul(even, angle), b.Mul(odd, angle))
        second = b.Add(b.Mul(even, angle), b.Mul(odd, angle))
        stacked = b.Concat(b.Unsqueeze(first, [4]), b.Unsqueeze(second, [4]), axis=4)
        return str(b.Reshape(stacked, [0, 0, 0, 8]))

    q, k, v = (b.heads(b.lin("x", 16, 32), 4, 8) for _ in range(3))
    return b.lin(b.attend(turn(q), turn(k), v, 4, 8), 32, 5)


# ---------------------------------------------------------------- gathers


@selections(opsets=(9, 13, 18), cut=[24], stays={30: "indexed"}, **TOKENS)
def embedding(b: Build) -> str:
    ids = b.Cast(b.Mul(b.Sigmoid(b.lin("x", 16, 1)), np.float32(29)), to=7)  # [B, S, 1]
    return b.lin(b.Sigmoid(b.Gather(b.w(30, 24), ids)), 24, 5)


@selections(cut=[24], **TOKENS)
def embedding_of_positions(b: Build) -> str:
    """Rows 0..S-1 of a table, counted from a shape."""
    count = b.Gather(b.Shape("x"), np.int64(1))
    rows = b.Gather(b.w(20, 24), b.Range(np.int64(0), count, np.int64(1)))
    return b.lin(b.Sigmoid(b.Add(b.lin("x", 16, 24), rows)), 24, 5)


@selections(cut=[], stays={24: "interface", 20: "indexed"}, x=("B", "S", 24), z=("B", 16))
def one_table_for_positions_and_a_layer(b: Build) -> list[str]:
    """A matrix whose rows are read by a computed number here is the weight of a layer there."""
    table = b.w(20, 24)
    count = b.Gather(b.Shape("x"), np.int64(1))
    rows = b.Gather(table, b.Range(np.int64(0), count, np.int64(1)))
    layer = b.Sigmoid(b.MatMul(b.lin("z", 16, 20), table))
    return [b.Add("x", rows), b.lin(layer, 24, 5)]


@selections(cut=[20], stays={24: "indexed"})
def units_in_another_order(b: Build) -> str:
    """The list may get shorter, what it numbers stays."""
    t = b.Relu(b.lin("x", 16, 24))
    return b.lin(b.Gather(t, b.rng.permutation(24)[:20], axis=1), 20, 5)


@selections(cut=[4, (6, 4)], stays={3: "indexed"})
def units_swapped_and_added(b: Build) -> str:
    """[B, 4, 6, 3]: swapping the last axis mixes it, so that 4 and 6 are not chosen per unit of
    it, though every tensor has it beside them."""
    h = b.Reshape(b.lin("x", 16, 72), [0, 4, 6, 3])
    h = b.Sigmoid(b.Add(h, b.Gather(h, [2, 0, 1], axis=3)))
    return b.lin(b.Reshape(h, [0, 72]), 72, 5)


@selections(opsets=(9, 18), x=("B", 3, 16), cut=[24])
def the_first_of_an_axis(b: Build) -> str:
    return b.lin(b.Gather(b.Sigmoid(b.lin("x", 16, 24)), np.int64(0), axis=1), 24, 5)


@selections(cut=[21, 2])
def one_unit_by_number(b: Build) -> str:
    """Unit -3 is read alone: it stays, those before and after may go and its number follows."""
    h = b.Relu(b.lin("x", 16, 24))
    one = b.Gather(h, np.int64(-3), axis=1)  # [B]
    also = b.Gather(h, [21], axis=1)  # [B, 1]
    return b.lin(b.Add(b.Mul(h, b.Unsqueeze(one, [1])), also), 24, 5)


@selections(cut=[23])
def the_last_unit_by_a_computed_number(b: Build) -> str:
    h = b.Relu(b.lin("x", 16, 24))
    last = b.Sub(b.Gather(b.Shape(h), np.int64(1)), np.int64(1))
    return b.lin(b.Mul(h, b.Unsqueeze(b.Gather(h, last, axis=1), [1])), 24, 5)


@selections(cut=[], stays={24: "indexed"})
def one_unit_by_a_matrix_of_one_number(b: Build) -> list[str]:
    h = b.Relu(b.lin("x", 16, 24))
    one = b.Gather(h, np.array([[-3]]), axis=1)  # [B, 1, 1]
    return [b.lin(b.Reshape(one, [-1, 1]), 1, 5), b.lin(h, 24, 5)]


@selections(x=("B", "S", 16), cut=[6, (6, 6), (6, 6)])
def packed_then_unbound(b: Build) -> str:
    """[B, S, 3, H, D] with H = D, transposed, then 0, 1, 2 picked."""
    p = b.Reshape(b.lin("x", 16, 108), [0, -1, 3, 6, 6])
    p = b.Transpose(p, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.Gather(p, np.int64(i), axis=0) for i in range(3))
    return b.lin(b.attend(q, k, v, 6, 6), 36, 5)


@selections(x=("B", "S", 16))
def packed_innermost_then_unbound(b: Build) -> str:
    """[B, S, H, D, 3]."""
    p = b.Reshape(b.lin("x", 16, 96), [0, -1, 4, 8, 3])
    p = b.Transpose(p, perm=[4, 0, 2, 1, 3])
    q, k, v = (b.Gather(p, np.int64(i), axis=0) for i in range(3))
    return b.lin(b.attend(q, k, v, 4, 8), 32, 5)


@selections(opsets=(11, 18), cut=[24], x=("B", 3, 16))
def elements_of_a_middle_axis(b: Build) -> str:
    """Indexed along the middle axis: the units of the last pass."""
    h = b.Sigmoid(b.lin("x", 16, 24))
    places = b.Cast(b.Mul(b.Sigmoid(b.lin("x", 16, 24)), np.float32(2.9)), to=7)
    return b.lin(b.Mul(b.GatherElements(h, places, axis=1), h), 24, 5)


@selections(cut=[], stays={24: "indexed"})
def elements_of_the_units(b: Build) -> str:
    h = b.lin("x", 16, 24)
    places = b.Cast(b.Mul(b.Sigmoid(b.lin("x", 16, 24)), np.float32(23)), to=7)
    return b.lin(b.GatherElements(h, places, axis=1), 24, 5)


@selections(cut=[24], x=("B", 3, 16))
def elements_scattered_beside_a_layer(b: Build) -> str:
    """A write that is dropped is not a zero that is written: what is scattered stays."""
    places = b.Cast(b.Mul(b.Sigmoid(b.lin("x", 16, 7)), np.float32(2.9)), to=7)  # [B, 3, 7]
    h = b.ScatterElements(b.lin("x", 16, 7), places, b.Sigmoid(b.lin("x", 16, 7)), axis=1)
    return b.lin(b.Sigmoid(b.lin(h, 7, 24)), 24, 5)


@selections(opsets=(11, 18), cut=[24], x=("B", 3, 16))
def rows_by_number(b: Build) -> str:
    """GatherND over the first two axes: the units of the last pass."""
    h = b.Sigmoid(b.lin("x", 16, 24))
    return b.lin(b.GatherND(h, b.const([[0, 1], [1, 2], [0, 0]])), 24, 5)


@selections(cut=[24], x=("B", 3, 16))
def rows_by_number_per_sample(b: Build) -> str:
    h = b.Sigmoid(b.lin("x", 16, 24))
    places = b.Cast(b.Mul(b.Sigmoid(b.lin("x", 16, 1)), np.float32(2.9)), to=7)  # [B, 3, 1]
    return b.lin(b.GatherND(h, places, batch_dims=1), 24, 5)


@selections(cut=[24], x=("B", 3, 16))
def rows_scattered(b: Build) -> str:
    h = b.Sigmoid(b.lin("x", 16, 24))
    rows = b.Gather(h, np.int64(0), axis=0)  # [3, 24]
    return b.lin(b.ScatterND(h, b.const([[0, 0], [1, 2], [1, 1]]), rows), 24, 5)


@selections(cut=[4], x=(16,))
def units_by_number_per_unit_of_a_batch(b: Build) -> str:
    """The batch of GatherND is a group: what is read and the numbers lose the same."""
    h = b.Reshape(b.MatMul("x", b.w(16, 24)), [4, 6])
    places = b.Cast(b.Mul(b.Sigmoid(b.MatMul("x", b.w(16, 4))), np.float32(5.9)), to=7)
    return b.MatMul(b.GatherND(h, b.Unsqueeze(places, [1]), batch_dims=1), b.w(4, 5))


@selections(cut=[24], stays={7: "scattered", 30: "indexed"}, x=(16,))
def rows_scattered_by_a_list(b: Build) -> str:
    updates = b.Sigmoid(b.Reshape(b.MatMul("x", b.w(16, 168)), [7, 24]))
    rows = b.const([[3], [9], [0], [29], [11], [4], [5]])
    return b.MatMul(b.ScatterND(b.w(30, 24, scale=1.0), rows, updates), b.w(24, 5))


@selections(**IMAGES)
def focus(b: Build) -> str:
    """Space to depth by strided slices of an image."""
    h = b.conv("x", 3, 4)
    parts = [b.Slice(h, [i, j], [FAR, FAR], [2, 3], [2, 2]) for i in (0, 1) for j in (0, 1)]
    return b.conv(b.Sigmoid(b.Concat(*parts, axis=1)), 16, 5, 1)


# ---------------------------------------------------------------- lists of runs


@selections(cut=[16, 8])
def halves_exchanged(b: Build) -> str:
    h = b.Gather(b.lin("x", 16, 24), [*range(16, 24), *range(16)], axis=-1)
    return b.lin(b.Sigmoid(h), 24, 5)


@selections(cut=[5, 5, 6, 10])
def runs_chosen(b: Build) -> str:
    """One run twice, one never: its units shift the others all the same. Negative positions."""
    h = b.lin("x", 16, 21)
    listed = [*range(-5, 0), *range(6), *range(-5, 0)]
    return b.lin(b.Add(b.lin(b.Sigmoid(b.Gather(h, listed, axis=1)), 16, 5), b.lin(h, 21, 5)), 5, 5)


@selections(cut=[4, 6, 6], **TOKENS)
def runs_in_every_head(b: Build) -> str:
    """Halves of a head exchanged, alike in every head: the list knows no heads."""
    h = b.Sigmoid(b.Reshape(b.lin("x", 16, 48), [0, -1, 4, 12]))
    h = b.Gather(h, [*range(6, 12), *range(6)], axis=3)
    return b.lin(b.Reshape(h, [0, -1, 48]), 48, 5)


@selections(cut=[8])
def runs_of_a_grid(b: Build) -> str:
    """Indices of rank 2 make two axes of one."""
    listed = np.array([[*range(8, 16)], [*range(8)]])
    h = b.Gather(b.lin("x", 16, 16), listed, axis=1)
    return b.lin(b.Reshape(b.Sigmoid(h), [-1, 16]), 16, 5)


@selections(cut=[5], stays={6: "by a list"})
def a_run_of_one(b: Build) -> str:
    """Rather shortens the list than ties it to the axis unit by unit."""
    h = b.Gather(b.lin("x", 16, 6), [3, 4, 5, 0, 2], axis=1)
    return b.lin(h, 5, 4)


@selections(stays={3: "by a list"})
def runs_inside_blocks(b: Build) -> str:
    """A run may not begin inside a head."""
    h = b.Mul(b.Reshape(b.lin("x", 16, 24), [0, 3, 8]), b.w(3, 1))
    h = b.Gather(b.Reshape(h, [0, 24]), [*range(5, 24), *range(5)], axis=1)
    return b.lin(h, 24, 5)
