"""ai.onnx.ml: classical models, whose numbers are in attributes: rows pass, features stay."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.layout import size_of
from mipack.ops.registry import rule

ML = "ai.onnx.ml"
ROW_BY_ROW = (
    "FeatureVectorizer", "Imputer", "LinearClassifier", "LinearRegressor", "Normalizer",
    "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsemble",
    "TreeEnsembleClassifier", "TreeEnsembleRegressor",
)  # fmt: skip


@rule(*(f"{ML}::{op}" for op in ROW_BY_ROW))
def rows(n: NodeView) -> None:
    """Every row alone; attributes count its features."""
    operands = [n.x(i) for i in range(len(n.inputs))] + [n.y(j) for j in range(len(n.outputs))]
    batch = operands[0][0]
    for axes in operands:
        n.freeze(axes[1:], "features are listed in attributes")
        if axes and size_of(axes[0]) == size_of(batch):
            n.eq(axes[0], batch)
        else:
            n.freeze(axes, "features are listed in attributes")


@rule(f"{ML}::Binarizer", f"{ML}::LabelEncoder")
def one_by_one(n: NodeView) -> None:
    """Every number alone."""
    n.same(n.x(0), n.y())


@rule(f"{ML}::ArrayFeatureExtractor")
def array_feature_extractor(n: NodeView) -> None:
    """Picks positions of the last axis."""
    data, y = n.x(0), n.y()
    n.freeze([data[-1], *n.x(1), *y], "indexed")
    n.same(data[:-1], y[:-1])
    n.mixed(data, [len(data) - 1])
