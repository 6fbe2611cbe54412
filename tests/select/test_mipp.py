"""MIPP: the closed form against direct refits, what its test lets go, and the widths it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Array, Net, Toy, mlp

from mipack.calibrate.ridge import shrinkage
from mipack.errors import InputError
from mipack.pipeline import prune
from mipack.select import predict_mlp
from mipack.select.budget import Option
from mipack.select.criteria import CRITERIA
from mipack.select.criteria.mipp import Bootstrap, terc
from mipack.select.decide import Decider
from mipack.select.estimators import standardised
from mipack.select.evidence import CriterionOptions
from mipack.select.predict import Predictor, Ridge, fitted, halves
from mipack.select.predict_mlp import Network
from mipack.select.request import Request
from mipack.select.tau import by_tau, enough


def problem(rows: int = 240, seed: int = 0) -> tuple[Array, Array, Array]:
    """x [rows, 8], z [rows, 3] and four units of two features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 8)) @ rng.normal(size=(8, 8))
    z = x @ rng.normal(size=(8, 3)) + rng.normal(size=(rows, 3))
    return x, z, np.array([[0, 5], [1, 2], [3, 7], [4, 6]])


def direct(x: Array, z: Array, stays: list[int]) -> Array:
    """Squared error of every test row with these features alone, standardised z; the same ridge."""
    fit, test = halves(len(x))
    z, level = standardised(z), x[fit].var(0).mean()
    mean, base = x[fit].mean(0), z[fit].mean(0)
    own, ridge = (x[fit] - mean)[:, stays], shrinkage(len(x[fit]), x.shape[1])
    gram = own.T @ own / len(own) + ridge * level * np.eye(len(stays))
    slope = np.linalg.solve(gram, own.T @ (z[fit] - base) / len(own))
    return ((z[test] - base - (x[test] - mean)[:, stays] @ slope) ** 2).sum(1)


@given(st.permutations(range(4)), st.integers(1, 4), st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_ridge_rises_are_those_of_direct_refits(order: list[int], chunk: int, seed: int) -> None:
    """Whatever went before, and however units are chunked."""
    x, z, blocks = problem(seed=seed)
    ridge, start = Ridge(x, z, blocks), direct(x, z, list(range(8)))
    stays = list(range(8))
    for begin in range(0, 4, chunk):
        ridge.look(order[begin : begin + chunk])
        for unit in order[begin : begin + chunk]:
            left = [k for k in stays if k not in blocks[unit]]
            np.testing.assert_allclose(ridge.rise(unit), direct(x, z, left) - start, atol=1e-8)
            if unit % 2:
                ridge.drop(unit)
                stays = left


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_mlp, "HIDDEN", 32)
    monkeypatch.setattr(predict_mlp, "STEPS", (2, 60))


def planted(rows: int = 1200, units: int = 10) -> tuple[Array, Array, Array]:
    """Units 0 and 1 tell of z; 2 repeats 0; the others are noise."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, units))
    x[:, 2] = x[:, 0]
    z = x[:, :2] @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(rows, 4))
    return x, z, np.arange(units)[:, None]


@pytest.mark.parametrize("kind", ["ridge", "mlp"])
def test_what_prediction_can_do_without_goes(small: None, kind: str) -> None:
    """All noise, and one of two duplicates: the one that is tried first."""
    x, z, blocks = planted(units=6)
    predictor: Predictor = Ridge(x, z, blocks) if kind == "ridge" else Network(x, z, blocks, 0)
    order = np.array([3, 4, 5, 2, 0, 1])
    gone = terc([predictor], order, Bootstrap([len(x)], 0), 0.99)
    assert sorted(gone) == [2, 3, 4, 5]


def test_the_network_sees_what_a_line_does_not(small: None) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 3))
    z = np.abs(x[:, :1]) * 2
    rises = {}
    for name, predictor in (
        ("ridge", Ridge(x, z, np.arange(3)[:, None])),
        ("mlp", Network(x, z, np.arange(3)[:, None], 0)),
    ):
        predictor.look([0])
        rises[name] = float(predictor.rise(0).mean())
    assert rises["mlp"] > 0.3 > abs(rises["ridge"]) * 5


def test_more_certainty_asked_keeps_fewer() -> None:
    """50 % prunes little, 99 % a lot."""
    x, z, blocks = planted(300)
    z = z + 0.06 * x[:, 3:7]
    counts = []
    for confidence in (0.2, 0.5, 0.9, 0.999):
        ridge, bootstrap = Ridge(x, z, blocks), Bootstrap([len(x)], 0)
        counts.append(len(terc([ridge], np.arange(10), bootstrap, confidence)))
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_confidence_is_that_of_the_mean() -> None:
    bootstrap = Bootstrap([4000, 400], 3)
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=n) for n in (1000, 100)]
    noise = [n - n.mean() for n in noise]
    assert bootstrap.confidence(noise) == pytest.approx(0.5, abs=0.1)
    assert bootstrap.confidence([noise[0] + 1, noise[1]]) == 1
    assert bootstrap.confidence([0 * n for n in noise]) == 0  # nothing rises


def test_few_rows_are_fitted_and_judged_alike() -> None:
    assert halves(3) == (slice(0, 3), slice(0, 3))
    assert halves(400) == (slice(0, 300), slice(300, 400))


def test_fitted_is_ridge_regression() -> None:
    x, z, _ = problem()
    _, slope = fitted(x, z, 1e-9)
    want = np.linalg.lstsq(x - x.mean(0), z - z.mean(0), rcond=None)[0]
    np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- widths


def spare() -> Toy:
    """fc0 has 8 units that fc1 hears, one of them twice, and 7 that it hardly does."""
    toy = mlp(8, 16, 6, 3, samples=1500)
    net = Net(2)
    x = net.input("x", ("batch", 8))
    first = toy.coupling.constants["fc0.w"].copy()
    first[:, 8] = first[:, 0]
    read = toy.coupling.constants["fc1.w"].copy()
    h = net.relu(net.node("MatMul", x, net.weight("a.w", first), name="a"))
    read[9:] = 0
    h = net.relu(net.node("MatMul", h, net.weight("b.w", read), name="b"))
    y = net.node("MatMul", h, net.weight("c.w", toy.coupling.constants["fc2.w"]), name="c")
    return Toy(net.proto({y: ("batch", 3)}), toy.feeds)


def decided(toy: Toy, request: Request, confidence: float = 0.99) -> dict[str, int]:
    told = CriterionOptions(confidence=confidence)
    made = Decider(replace(toy.evidence, options=told), toy.coupling.free, "mipp", None)
    return {g.name: g.kept for g in made.decide(request).groups}


def test_widths_come_out_of_the_test() -> None:
    """The repeated unit and some that nothing reads, but that help a line to follow a curve."""
    toy = spare()
    kept = decided(toy, Request(keep=1.0, allocate="tau", own=True))
    assert 6 <= kept["a:out"] <= 12 and kept["b:out"] == 6
    ranking = CRITERIA["mipp"](toy.evidence, toy.group("a"), {})
    assert ranking.loss[kept["a:out"]] == 0 < ranking.loss[kept["a:out"] - 3]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_a_budget_is_met_by_one_threshold(share: float) -> None:
    toy = spare()
    made = Decider(toy.evidence, toy.coupling.free, "mipp", None)
    request, cost = Request(macs=share, allocate="tau"), toy.coupling.cost
    widths = made.widths(request)
    (budget,) = request.budgets(toy.coupling.free, cost)
    assert budget.target * 0.75 <= budget.total(cost, widths) <= budget.target
    with pytest.raises(InputError, match="of the macs"):
        made.widths(replace(request, macs=1e-3))


def test_a_threshold_takes_the_same_share_of_every_curve() -> None:
    toy = mlp(4, 10, 10, 3, samples=8)
    first, second = (
        Option(group, tuple(range(1, 11)), np.asarray(loss, float))
        for group, loss in zip(
            toy.coupling.free,
            ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [99, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0]),
            strict=True,
        )
    )
    assert [enough(first), enough(second)] == [10, 5]
    assert [enough(o, 0.55) for o in (first, second)] == [5, 1]
    for total in range(2, 21):
        found = by_tau([first, second], lambda w, total=total: sum(w.values()) <= total)  # type: ignore[misc]
        assert sum(found.values()) <= total
        if total >= 15:  # more than what costs nothing: it is given back
            assert sum(found.values()) >= total - 2 and found[first.group.atom] == 10


# ---------------------------------------------------------------- options


def test_confidence_alone_is_a_budget() -> None:
    toy = spare()
    result = prune(toy.proto, toy.feeds, criterion="mipp", confidence=0.99)
    kept = {group.name: group.kept for group in result.plan.groups}
    assert kept["a:out"] < 13
    told = {k: result.plan.settings[k] for k in ("estimator", "confidence", "mipp_predictor")}
    assert told == {"estimator": "joint", "confidence": 0.99, "mipp_predictor": "ridge"}
    assert result.plan.settings["allocate"] == "tau"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"criterion": "mi", "confidence": 0.9}, "--confidence says nothing to the criterion mi"),
        ({"criterion": "mipp", "confidence": 1.5}, "--confidence 1.5: not a share"),
        ({"criterion": "wanda", "estimator": "pair"}, "--criterion mi-layerwise or mipp"),
        ({"criterion": "mipp", "estimator": "guess"}, "--estimator guess: not known"),
        ({"criterion": "mipp", "mipp_predictor": "oracle"}, "--mipp-predictor oracle: not known"),
        ({"criterion": "mi-layerwise", "mipp_predictor": "mlp"}, "--mipp-predictor says nothing"),
    ],
)
def test_what_a_criterion_is_told_must_concern_it(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        prune("none.onnx", keep=0.5, **settings)
    assert says in f"{caught.value} {caught.value.hint}"


def test_moments_without_rows_are_refused(tmp_path: object) -> None:
    toy, path = mlp(4, 6, 5, 3), f"{tmp_path}/m.npz"
    prune(toy.proto, toy.feeds, keep=0.5, moments=path)
    with pytest.raises(InputError, match="hold no rows") as caught:
        prune(toy.proto, toy.feeds, keep=0.5, moments=path, criterion="mipp")
    assert "delete" in caught.value.hint
