"""Ops through which little or nothing is cut: what is beside them is, and they stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lawkit import Build, Case, Cases
from onnx import numpy_helper

opaque = Cases()
MS = "com.microsoft"
NCHWC = "com.microsoft.nchwc"
ROW = {"x": ("B", 16)}


def _heads(b: Build) -> str:
    """[B, 4, 6] of a dense layer."""
    return str(b.Reshape(b.lin("x", 16, 24), [0, 4, 6]))


def _out(b: Build, h: str) -> str:
    return b.lin(b.Reshape(b.Sigmoid(h), [0, 24]), 24, 5)


def _total(b: Build, y: str) -> str:
    """A number of whatever shape as one that is added to a row."""
    return str(b.ReduceSum(b.Cast(y, to=1), keepdims=0))


def _run_time(b: Build, value: int) -> str:
    """A number that only a run shows."""
    nothing = b.Mul(b.ReduceSum("x", keepdims=0), np.float32(0))
    return str(b.Cast(b.Add(nothing, np.float32(value)), to=7))


# ---------------------------------------------------------------- nothing passes

MAKERS: dict[str, tuple[int, Callable[[Build, str], str]]] = {
    "BlackmanWindow": (18, lambda b, h: b.BlackmanWindow(_run_time(b, 8))),
    "HammingWindow": (18, lambda b, h: b.HammingWindow(_run_time(b, 8))),
    "HannWindow": (18, lambda b, h: b.HannWindow(_run_time(b, 8))),
    "MelWeightMatrix": (
        18,
        lambda b, h: b.MelWeightMatrix(
            _run_time(b, 4), np.int64(16), np.int64(8192), np.float32(0), np.float32(4096)
        ),
    ),
    "Range": (18, lambda b, h: b.Range(np.int64(0), _run_time(b, 7), np.int64(2))),
    "EyeLike": (18, lambda b, h: b.EyeLike(b.Reshape(h, [-1, 24]), dtype=1)),
    "Compress": (18, lambda b, h: b.Compress(h, b.const([True, False, True, True]), axis=1)),
    "NonZero": (18, lambda b, h: b.NonZero(h)),
    "Size": (18, lambda b, h: b.Size(b.Relu(h))),
    "Unique": (18, lambda b, h: b.Unique(b.Floor(h))),
    "RandomNormal": (18, lambda b, h: b.RandomNormal(shape=[3, 4], seed=1.0)),
    "RandomUniform": (18, lambda b, h: b.RandomUniform(shape=[3, 4], seed=1.0)),
    "RandomNormalLike": (18, lambda b, h: b.RandomNormalLike(h, seed=1.0)),
    "RandomUniformLike": (18, lambda b, h: b.RandomUniformLike(h, seed=1.0)),
    "Bernoulli": (18, lambda b, h: b.Bernoulli(b.Sigmoid(h), seed=1.0)),
    "Multinomial": (
        18,
        lambda b, h: b.Multinomial(b.Reshape(h, [-1, 24]), sample_size=3, seed=1.0),
    ),
    "NonMaxSuppression": (
        18,
        lambda b, h: b.NonMaxSuppression(
            b.Slice(h, [0], [4], [2]), b.ReduceMax(b.Transpose(h, perm=[0, 2, 1]), [1]), 3
        ),
    ),
    "com.microsoft::MaxpoolWithMask": (
        18,
        lambda b, h: b.MaxpoolWithMask(
            b.Unsqueeze(h, [3]),
            b.const(np.ones((2, 1, 6, 1)), "int32"),
            kernel_shape=[2, 1],
            domain=MS,
        ),
    ),
    "com.microsoft::Range": (
        18,
        lambda b, h: b.Range(np.int64(0), _run_time(b, 7), np.int64(2), domain=MS),
    ),
    "com.microsoft::Unique": (
        18,
        lambda b, h: b.Unique(b.Reshape(b.Floor(h), [-1]), n=3, domain=MS)[0],
    ),
}
PACKED: dict[str, Callable[[Build, str], str]] = {
    "ReorderInput": lambda b, h: h,
    "ReorderOutput": lambda b, h: h,
    "Conv": lambda b, h: b.Conv(h, b.w(16, 16, 1, 1), domain=NCHWC),
    "MaxPool": lambda b, h: b.MaxPool(h, kernel_shape=[2, 1], domain=NCHWC),
    "AveragePool": lambda b, h: b.AveragePool(h, kernel_shape=[2, 1], domain=NCHWC),
    "GlobalMaxPool": lambda b, h: b.GlobalMaxPool(h, domain=NCHWC),
    "GlobalAveragePool": lambda b, h: b.GlobalAveragePool(h, domain=NCHWC),
    "Upsample": lambda b, h: b.Upsample(h, scales=[1, 1, 2, 2], domain=NCHWC),
}


def _packed(make: Callable[[Build, str], str]) -> Callable[[Build, str], str]:
    def between(b: Build, h: str) -> str:
        wide = b.Unsqueeze(b.Concat(h, h, h, h, axis=1), [3])  # 16 fill the blocks of any machine
        y = make(b, b.ReorderInput(wide, domain=NCHWC))
        return str(b.ReorderOutput(y, channels=16, domain=NCHWC))

    return between


MAKERS |= {f"{NCHWC}::{op}": (18, _packed(make)) for op, make in PACKED.items()}


def _beside(make: Callable[[Build, str], str]) -> Callable[[Build], str]:
    def case(b: Build) -> str:
        h = _heads(b)
        y = b.Reshape(_total(b, make(b, h)), [1])
        return str(b.Add(_out(b, h), b.Tanh(y)))

    return case


for _name, (_opset, _make) in MAKERS.items():
    opaque.listed.append(Case(_name.replace("::", "-"), _beside(_make), ROW, _opset, None, {}))


@opaque(x=("B", 3, 8, 8), cut=[4], stays={8: ""})
def unpooled(b: Build) -> str:
    h, places = b.MaxPool(b.conv("x", 3, 8), kernel_shape=[2, 2], strides=[2, 2], n=2)
    h = b.MaxUnpool(h, places, kernel_shape=[2, 2], strides=[2, 2])
    return b.conv(b.Relu(b.conv(h, 8, 4)), 4, 3, 1)


@opaque(cut=[], stays={24: "indexed by data"}, x=("B", 16), t=("B",))
def losses(b: Build) -> str:
    h, label = b.lin("x", 16, 24), b.Cast(b.Abs("t"), to=7)
    one = b.SoftmaxCrossEntropyLoss(h, label)
    return str(b.Add(one, b.NegativeLogLikelihoodLoss(b.LogSoftmax(h), label)))


@opaque(opsets=(20,), x=("B", 16))
def affine_grid(b: Build) -> str:
    h = b.lin("x", 16, 6)
    return str(b.AffineGrid(b.Reshape(h, [-1, 2, 3]), b.Concat(
        b.Slice(b.Shape(h), [0], [1]), [3, 4, 5], axis=0)))  # fmt: skip


# ---------------------------------------------------------------- leading axes pass


@opaque(cut=[4], stays={3: "order matters"}, x=("B", 16))
def determinants(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 36), [0, 4, 3, 3])
    return b.lin(b.Det(h), 4, 5)


@opaque(cut=[4], stays={3: "order matters"}, x=("B", 16))
def inverses(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 36), [0, 4, 3, 3])
    h = b.Inverse(b.Add(b.Tanh(h), b.const(3 * np.eye(3), np.float32)), domain=MS)
    return b.lin(b.Reshape(h, [0, 36]), 36, 5)


def _spectra(opset: int) -> Callable[[Build], str]:
    def make(b: Build) -> str:
        h = b.Unsqueeze(_heads(b), [3])
        h = b.DFT(h, axis=2) if opset < 20 else b.DFT(h, None, np.int64(-2))
        return b.lin(b.Reshape(b.ReduceSum(b.Mul(h, h), [3]), [0, 24]), 24, 5)

    return make


for _opset in (17, 20):
    opaque.listed.append(
        Case(f"spectra-{_opset}", _spectra(_opset), ROW, _opset, [4], {6: "order matters"})
    )


@opaque(cut=[4], stays={8: "order matters"}, x=(16,))
def spectra_of_frames(b: Build) -> str:
    h = b.Reshape(b.MatMul("x", b.w(16, 32)), [4, 8, 1])
    y = b.STFT(h, np.int64(2), b.positive(4), np.int64(4))  # [4, 3, 3, 2]
    return b.MatMul(b.Reshape(y, [72]), b.w(72, 5))


@opaque(cut=[4], x=("B", 16))
def positions_spelled_out(b: Build) -> str:
    h = _heads(b)
    best = b.OneHot(b.ArgMax(h, axis=2, keepdims=0), np.int64(6), b.const([0.1, 0.9]))
    return _out(b, b.Add(h, best))


@opaque(opsets=(9, 13), cut=[4], stays={6: "order matters"}, x=("B", 16))
def neighbouring_channels(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [0, 6, 4, 1])
    return _out(b, b.Add(h, b.LRN(h, size=3, alpha=0.5)))


@opaque(opsets=(26,), cut=[4], stays={6: "order matters"}, x=("B", 16))
def running_products(b: Build) -> str:
    h = b.Sigmoid(_heads(b))
    return _out(b, b.CumProd(h, np.int64(2)))


@opaque(opsets=(10,), x=("B", 16))
def old_scatter(b: Build) -> str:
    h = b.Reshape(b.lin("x", 16, 24), [-1, 4, 6])
    places = b.Cast(b.Mul(b.Sigmoid(h), np.float32(5.9)), to=7)
    return _out(b, b.Scatter(h, places, b.Relu(h), axis=2))


@opaque(opsets=(24,), cut=[4], stays={6: "scattered"}, x=("B", 16))
def a_cache_written(b: Build) -> str:
    h = b.Transpose(_heads(b), perm=[0, 2, 1])
    new = b.Reshape(b.lin("x", 16, 8), [0, 2, 4])
    places = b.Cast(b.Mul(b.Sigmoid(b.ReduceSum("x", [1], keepdims=0)), np.float32(3)), to=7)
    h = b.TensorScatter(h, new, places, axis=1)
    return _out(b, b.Transpose(h, perm=[0, 2, 1]))


@opaque(cut=[4], stays={6: "cropped or padded"}, x=("B", 16))
def cropped_from_the_middle(b: Build) -> str:
    h = b.CenterCropPad(_heads(b), b.const([4, 3]), axes=[1, -1])
    return b.lin(b.Reshape(h, [0, 12]), 12, 5)


@opaque(opsets=(26,), cut=[24], x=("B", 16))
def bits(b: Build) -> str:
    h = b.BitCast(b.Cast(b.Relu(b.lin("x", 16, 24)), to=6), to=12)
    return b.lin(b.Cast(h, to=1), 24, 5)


# ---------------------------------------------------------------- classical models: rows pass


ML = "ai.onnx.ml"
TREE = {
    "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.0] * 3,
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip


def _leaves(what: str) -> dict[str, list[float]]:
    """Two leaves of a tree, as regressors and classifiers spell them."""
    names = (f"{what}_treeids", f"{what}_nodeids", f"{what}_ids", f"{what}_weights")
    return dict(zip(names, ([0, 0], [1, 2], [0, 0], [1.0, 2.0]), strict=True))


def _tensor(numbers: list[float], dtype: str = "float32") -> Any:
    return numpy_helper.from_array(np.array(numbers, dtype))


STUMP = {
    "nodes_falseleafs": [1], "nodes_falsenodeids": [1], "nodes_featureids": [0],
    "nodes_modes": _tensor([0], "uint8"), "nodes_splits": _tensor([0.1]), "nodes_trueleafs": [1],
    "nodes_truenodeids": [0], "tree_roots": [0], "leaf_targetids": [0, 0],
    "leaf_weights": _tensor([1.0, 2.0]), "n_targets": 1,
}  # fmt: skip


def _stump(b: Build, h: str) -> str:
    b.versions[ML] = 5
    return str(b.TreeEnsemble(h, domain=ML, **STUMP))


CATEGORIES = {
    "cats_int64s": [0, 1], "cats_strings": ["none", "one"], "default_string": "some",
    "default_int64": 7, "domain": ML,
}  # fmt: skip
SVM = {
    "kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "coefficients": [0.1, 0.2],
    "support_vectors": [0.1 * k for k in range(8)], "rho": [0.1],
}  # fmt: skip
GRAMS = {
    "max_gram_length": 2, "max_skip_count": 0, "min_gram_length": 1, "mode": "TF",
    "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2], "pool_int64s": [0, 1, 0, 1],
}  # fmt: skip
CLASSIC: dict[str, Callable[[Build, str], str]] = {
    "Imputer": lambda b, h: b.Imputer(h, imputed_value_floats=[1.0] * 4, domain=ML),
    "Scaler": lambda b, h: b.Scaler(h, offset=[0.1, 0.2, 0.3, 0.4], scale=[2.0] * 4, domain=ML),
    "Normalizer": lambda b, h: b.Normalizer(h, norm="L2", domain=ML),
    "LinearRegressor": lambda b, h: b.LinearRegressor(
        h, coefficients=[0.1 * k for k in range(8)], targets=2, domain=ML
    ),
    "LinearClassifier": lambda b, h: b.LinearClassifier(
        h, coefficients=[0.1 * k for k in range(8)], classlabels_ints=[0, 1],
        intercepts=[0.1, 0.2], n=2, domain=ML,
    )[1],
    "FeatureVectorizer": lambda b, h: b.FeatureVectorizer(
        h, b.Relu(h), inputdimensions=[4, 4], domain=ML
    ),
    "Binarizer": lambda b, h: b.Binarizer(h, threshold=0.2, domain=ML),
    "OneHotEncoder": lambda b, h: b.OneHotEncoder(b.Cast(h, to=7), cats_int64s=[0, 1], domain=ML),
    "ArrayFeatureExtractor": lambda b, h: b.ArrayFeatureExtractor(h, b.const([2, 0]), domain=ML),
    "TreeEnsemble": _stump,
    "CategoryMapper": lambda b, h: b.Cast(
        b.CategoryMapper(b.CategoryMapper(b.Cast(h, to=7), **CATEGORIES), **CATEGORIES), to=1
    ),
    "LabelEncoder": lambda b, h: b.LabelEncoder(
        b.Cast(h, to=7), keys_int64s=[0, 1], values_floats=[0.5, 2.0], domain=ML
    ),
    "TreeEnsembleRegressor": lambda b, h: b.TreeEnsembleRegressor(
        h, n_targets=1, domain=ML, **TREE, **_leaves("target")
    ),
    "TreeEnsembleClassifier": lambda b, h: b.TreeEnsembleClassifier(
        h, classlabels_int64s=[0, 1], n=2, domain=ML, **TREE, **_leaves("class")
    )[1],
    "SVMRegressor": lambda b, h: b.SVMRegressor(h, n_supports=2, domain=ML, **SVM),
    "SVMClassifier": lambda b, h: b.SVMClassifier(
        h, classlabels_ints=[0, 1], vectors_per_class=[1, 1], n=2, domain=ML, **SVM
    )[1],
    "TfIdfVectorizer": lambda b, h: b.TfIdfVectorizer(b.Cast(h, to=7), **GRAMS),
}  # fmt: skip


def _rows(make: Callable[[Build, str], str]) -> Callable[[Build], str]:
    def case(b: Build) -> str:
        y = make(b, b.lin(b.MatMul(b.w(6, 5), "x"), 8, 4))
        return str(b.MatMul(b.w(3, 6), b.Flatten(y)))

    return case


for _name, _make in CLASSIC.items():
    opaque.listed.append(Case(f"ml-{_name}", _rows(_make), {"x": (5, 8)}, 18, None, {}))


# ---------------------------------------------------------------- kept alike beside a residual


def _around(h: str, b: Build) -> str:
    """[B, 4, 6] with a vector added: 6 is met alone, so 4 might be chosen per unit of 6."""
    return str(b.Add(h, b.w(6, scale=1.0)))


@opaque(cut=[4], stays={3: ""}, x=("B", 16))
def inverses_beside_a_residual(b: Build) -> str:
    h = b.Tanh(b.Add(b.Reshape(b.lin("x", 16, 36), [0, 4, 3, 3]), b.w(3, scale=1.0)))
    h = b.Add(h, b.const(4 * np.eye(3), np.float32))
    return b.lin(b.Reshape(b.Add(h, b.Inverse(h, domain=MS)), [0, 36]), 36, 5)


@opaque(opsets=(17,), cut=[4], stays={3: ""}, x=("B", 16))
def spectra_beside_a_residual(b: Build) -> str:
    h = b.Reshape(_around(_heads(b), b), [0, 4, 3, 2])
    return _out(b, b.Add(h, b.DFT(h, axis=2)))


@opaque(cut=[4], stays={3: "order matters"}, x=(16,))
def frames_beside_a_residual(b: Build) -> str:
    h = b.Add(b.Reshape(b.MatMul("x", b.w(16, 72)), [4, 18]), b.w(18, scale=1.0))
    y = b.STFT(b.Unsqueeze(h, [2]), np.int64(7), b.positive(4), np.int64(4))  # [4, 3, 3, 2]
    return b.MatMul(b.Reshape(b.Tanh(b.Add(h, b.Reshape(y, [4, 18]))), [72]), b.w(72, 5))


@opaque(cut=[4], stays={6: "become data"}, x=("B", 16))
def positions_alone(b: Build) -> str:
    places = b.Cast(b.Abs(b.lin("x", 16, 4)), to=7)
    y = b.OneHot(places, np.int64(6), b.const([0.1, 0.9]))
    return b.lin(b.Reshape(y, [0, 24]), 24, 5)


def _mixed_rows(make: Callable[[Build, str], str]) -> Callable[[Build], str]:
    def case(b: Build) -> str:
        h = b.Reshape(b.MatMul(b.w(24, 5), "x"), [6, 4, 8])
        h = b.Add(b.ReduceSum(h, [2], keepdims=0), b.w(4, scale=1.0))
        y = b.Tanh(b.Add(h, make(b, h)))
        return str(b.MatMul(b.w(5, 24), b.Reshape(y, [24, 1])))

    return case


for _name, _make in {
    "Normalizer": CLASSIC["Normalizer"],
    "ArrayFeatureExtractor": lambda b, h: b.ArrayFeatureExtractor(
        h, b.const([2, 0, 3, 1]), domain=ML
    ),
}.items():
    opaque.listed.append(
        Case(f"ml-{_name}-residual", _mixed_rows(_make), {"x": (5, 8)}, 18, [6], {4: ""})
    )


@opaque(cut=[4], stays={3: "cropped or padded"}, x=("B", 16))
def cropped_beside_a_residual(b: Build) -> str:
    """[B, 4, 6] cropped to 3, and 6 read as 3 pairs to which that is added."""
    h = b.Add(b.Reshape(b.lin("x", 16, 24), [0, 4, 3, 2]), b.w(3, 1, scale=1.0))
    y = b.CenterCropPad(b.Reshape(h, [0, 4, 6]), b.const([3]), axes=[2])
    return _out(b, b.Add(h, b.Unsqueeze(y, [3])))


@opaque(opsets=(24,), cut=[3, (4, 3)], stays={6: "scattered"}, x=(16,))
def caches_beside_a_residual(b: Build) -> str:
    """[3, 6, 4]: every cache is written at a place of its own."""
    h = b.Add(b.Reshape(b.MatMul("x", b.w(16, 72)), [3, 6, 4]), b.w(6, 1, scale=1.0))
    y = b.TensorScatter(h, b.Relu(h), b.const([0, 3, 1]), axis=1, mode="circular")
    return b.MatMul(b.Reshape(b.Tanh(b.Add(h, y)), [72]), b.w(72, 5))
