"""Depth is found like width: a branch that is worth little goes, one that matters stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from toys import Net, run
from typer.testing import CliRunner

from mipack import PruneResult, prune
from mipack.cli.app import app
from mipack.errors import PlanMismatch

USELESS = 1e-3


class Model:
    """A stream with two branches, of which the last layer of one has tiny weights."""

    def __init__(self, kind: str, *, useless: str = "second") -> None:
        net = Net(3)
        shape = {"mlp": ("batch", 16), "cnn": ("batch", 3, 8, 8)}.get(kind, ("batch", "steps", 16))
        x = net.input("x", shape)
        stream = net.conv(x, 3, 12, name="stem") if kind == "cnn" else x
        for name in ("first", "second"):
            branch = getattr(self, kind)(net, stream, name)
            if name == useless:
                net.weights[f"{name}.out.w"] *= np.float32(USELESS)
            stream = net.node("Add", stream, branch)
        self.y = self.head(net, kind, stream)
        self.proto = net.proto({self.y: ("batch", 5)})
        sizes = {"batch": 256, "steps": 6}
        data = net.rng.normal(size=[sizes.get(str(d), d) for d in shape]).astype(np.float32)
        self.feeds = [{"x": data}]

    def head(self, net: Net, kind: str, stream: str) -> str:
        if kind == "cnn":
            stream = net.node("Flatten", net.node("GlobalAveragePool", net.relu(stream)))
        elif kind == "attention":
            stream = net.node("ReduceMean", stream, axes=[1], keepdims=0)
        return net.dense(stream, 12 if kind == "cnn" else 16, 5, name="head")

    def mlp(self, net: Net, x: str, name: str) -> str:
        hidden = net.relu(net.dense(x, 16, 24, name=name))
        return net.dense(hidden, 24, 16, name=f"{name}.out")

    def cnn(self, net: Net, x: str, name: str) -> str:
        hidden = net.relu(net.conv(net.relu(x), 12, 16, name=name))
        return net.conv(hidden, 16, 12, name=f"{name}.out")

    def attention(self, net: Net, x: str, name: str) -> str:
        def apart(part: str, perm: list[int]) -> str:
            made = net.dense(x, 16, 16, name=f"{name}.{part}")
            shape = net.weight(f"{name}.{part}.shape", np.array([0, 0, 4, 4], np.int64))
            return net.node("Transpose", net.node("Reshape", made, shape), perm=perm)

        q, k = apart("q", [0, 2, 1, 3]), apart("k", [0, 2, 3, 1])
        scores = net.node("Softmax", net.node("MatMul", q, k), axis=-1)
        mixed = net.node("MatMul", scores, apart("v", [0, 2, 1, 3]))
        merged = net.node("Transpose", mixed, perm=[0, 2, 1, 3])
        shape = net.weight(f"{name}.merged", np.array([0, 0, 16], np.int64))
        return net.dense(net.node("Reshape", merged, shape), 16, 16, name=f"{name}.out")


def gone(result: PruneResult) -> list[str]:
    return [group.name for group in result.plan.groups if not group.kept]


@pytest.mark.parametrize("useless", ["first", "second"])
@pytest.mark.parametrize("kind", ["mlp", "cnn", "attention"])
def test_the_useless_branch_goes_and_the_other_stays(kind: str, useless: str) -> None:
    model = Model(kind, useless=useless)
    result = prune(model.proto, model.feeds, macs=0.45)
    assert gone(result) and all(name.startswith(useless) for name in gone(result))
    assert result.model is not None and result.after.macs <= 0.45 * result.before.macs
    left = {node.name for node in result.model.graph if node.op_type in ("MatMul", "Conv", "Gemm")}
    assert not any(name.startswith(useless) for name in left)
    assert (result.fidelity["kl"] or 0) < 0.05


def test_the_mean_of_what_goes_is_in_the_bias() -> None:
    """With the refit the outputs keep their means; without it they lose those of the branch."""
    model = Model("mlp")
    plan = prune(model.proto, model.feeds, macs=0.45, criterion="magnitude", decide_only=True).plan
    assert not next(g for g in plan.groups if g.name.startswith("second")).kept
    want = run(model.proto, model.feeds[0])[model.y].mean(0)
    gaps = {}
    for refit in (True, False):
        result = prune(model.proto, model.feeds, macs=0.45, criterion="magnitude", refit=refit)
        gaps[refit] = np.abs(run(result.model, model.feeds[0])[model.y].mean(0) - want).max()
    assert gaps[True] < gaps[False]


def test_uniform_shares_leave_every_branch_a_unit() -> None:
    model = Model("mlp")
    result = prune(model.proto, model.feeds, keep=0.02, allocate="uniform")
    assert not gone(result)


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, calib.npz and what the command line makes of them."""
    folder, model = tmp_path_factory.mktemp("branches"), Model("mlp")
    onnx.save(model.proto, folder / "model.onnx")
    np.savez(folder / "calib.npz", **model.feeds[0])
    call("prune", folder / "model.onnx", "--calib", folder / "calib.npz", "--macs", "0.45",
         "-o", folder / "out.onnx")  # fmt: skip
    return folder


def call(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def plan_of(folder: Path) -> dict[str, list[int]]:
    data = json.loads((folder / "out.plan.json").read_text())
    return {group["name"]: group["keep"] for group in data["groups"]}


def test_a_plan_says_that_nothing_is_kept_and_is_replayed(folder: Path, tmp_path: Path) -> None:
    assert plan_of(folder)["second:out"] == []
    again = tmp_path / "again.onnx"
    call("prune", folder / "model.onnx", "--calib", folder / "calib.npz", "--from-plan",
         folder / "out.plan.json", "-o", again)  # fmt: skip
    assert again.read_bytes() == (folder / "out.onnx").read_bytes()


def test_a_plan_without_what_may_not_go_is_refused(folder: Path, tmp_path: Path) -> None:
    model = Model("cnn")
    plan = json.loads(prune(model.proto, model.feeds, macs=0.5, decide_only=True).plan.dumps())
    next(g for g in plan["groups"] if g["name"].startswith("stem"))["keep"] = []
    path = tmp_path / "x.plan.json"
    path.write_text(json.dumps(plan))
    with pytest.raises(PlanMismatch, match="may not go entirely"):
        prune(model.proto, model.feeds, from_plan=path)


def test_the_other_commands_take_the_result(folder: Path) -> None:
    files = (folder / "model.onnx", folder / "out.onnx")
    assert "agreement" in call("eval", *files, "--data", folder / "calib.npz")
    assert call("bench", *files, "--shape", "batch=4", "--seconds", "0.2")
    assert call("inspect", folder / "out.onnx")


def test_inspect_says_what_may_go(folder: Path) -> None:
    data = json.loads(call("inspect", folder / "model.onnx", "--json"))
    rows = {row["name"]: row for row in data["groups"]}
    assert rows["first:out"]["removable"] and rows["second:out"]["removable"]
    assert not any(row["removable"] for row in rows.values() if row["state"] != "free")
