"""Classical models, whose numbers are in attributes: rows pass, features stay."""

from __future__ import annotations

from mipack.graph.view import NodeView
from mipack.ops.registry import rule

ML = "ai.onnx.ml"
ROW_BY_ROW = (
    "FeatureVectorizer",
    "Imputer",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
)
WHY = "features are counted by attributes"


@rule("TfIdfVectorizer", *(f"{ML}::{op}" for op in ROW_BY_ROW))
def rows(n: NodeView) -> None:
    """Every row [N, features] alone; without an axis of rows all are features."""
    batch, *features = n.x(0)
    if not features:
        n.freeze_all(WHY)
        return
    operands = [n.x(i) for i in range(len(n.inputs))] + [n.y(j) for j in range(len(n.outputs))]
    for axes in operands:
        n.freeze(axes[1:], WHY)
        n.same([batch], axes)
    n.together(batch)


@rule(f"{ML}::Binarizer", f"{ML}::CategoryMapper", f"{ML}::LabelEncoder")
def number_by_number(n: NodeView) -> None:
    """Every number alone."""
    n.same(n.x(0), n.y())


@rule(f"{ML}::ArrayFeatureExtractor")
def array_feature_extractor(n: NodeView) -> None:
    """Picks positions of the last axis."""
    data, y = n.x(0), n.y()
    n.freeze([data[-1], *n.x(1), y[-1]], "indexed")
    n.same(data[:-1], y[:-1])
    n.mixed(data, [len(data) - 1])
