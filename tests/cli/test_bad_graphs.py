"""Graphs that are none, ops that nothing here knows, and files that lie about their shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mistakes import OLD, build, dense, rows, run, said
from onnx import TensorProto, helper, numpy_helper

from mipack.ops import registry

Spoil = Callable[[onnx.ModelProto], object]
FLOAT = TensorProto.FLOAT


def node(index: int, **fields: str) -> Spoil:
    """Other fields for a node; `reads` and `makes` are its first input and output."""

    def spoil(model: onnx.ModelProto) -> None:
        target = model.graph.node[index]
        for name, value in fields.items():
            if name in ("reads", "makes"):
                (target.input if name == "reads" else target.output)[0] = value
            else:
                setattr(target, name, value)

    return spoil


def also(field: str, make: Callable[[], object]) -> Spoil:
    """One entry more in a field of the graph."""
    return lambda model: getattr(model.graph, field).append(make())


def weight(name: str, *shape: int) -> Callable[[], onnx.TensorProto]:
    return lambda: numpy_helper.from_array(np.zeros(shape, np.float32), name)


def of_domain(domain: str, op: str, *, imported: bool = True) -> Spoil:
    def spoil(model: onnx.ModelProto) -> None:
        node(1, op_type=op, domain=domain)(model)
        if imported:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return spoil


def sparse() -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "w1"),
        numpy_helper.from_array(np.array([0, 5]), "places"),
        [8, 16],
    )


def sparse_initializer(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]
    model.graph.sparse_initializer.append(sparse())


def sparse_constant(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]
    made = helper.make_node("Constant", [], ["w1"], sparse_value=sparse())
    model.graph.node.insert(0, made)


def dangling_body(model: onnx.ModelProto) -> None:
    out = helper.make_tensor_value_info("inner", FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["ghost"], ["inner"])], "b", [], [out])
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    choice = helper.make_node("If", ["condition"], ["r"], then_branch=body, else_branch=body)
    model.graph.node[1].CopyFrom(choice)


BROKEN: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a cycle": (node(0, reads="r"), ("cycle",)),
    "a node that reads itself": (node(1, reads="r"), ("cycle",)),
    "a dangling input": (node(1, reads="ghost"), ("'ghost'", "Relu r")),
    "a dangling input of a body": (dangling_body, ("'ghost'", "Relu inner")),
    "a dangling output": (
        lambda m: setattr(m.graph.output[0], "name", "ghost"),
        ("'ghost'", "output"),
    ),
    "no output": (lambda m: m.graph.output.pop(), ("no outputs",)),
    "a nameless result that is read": (node(1, makes=""), ("'r'", "Gemm y")),
    "two nodes that make one value": (
        also("node", lambda: helper.make_node("Tanh", ["h"], ["r"])),
        ("'r'", "Relu", "Tanh"),
    ),
    "two initializers of one name": (also("initializer", weight("w1", 8, 16)), ("'w1'", "twice")),
    "two inputs of one name": (
        also("input", lambda: helper.make_tensor_value_info("x", FLOAT, ["batch", 8])),
        ("'x'", "twice"),
    ),
    "an initializer and a result of one name": (also("initializer", weight("r", 1)), ("'r'",)),
    "an initializer and an output of one name": (also("initializer", weight("y", 1)), ("'y'",)),
    "an input and a result of one name": (node(1, makes="x"), ("'x'",)),
    "a sparse initializer": (sparse_initializer, ("sparse", "w1")),
    "a sparse constant": (sparse_constant, ("sparse", "w1")),
    "an op the standard does not have": (
        node(1, op_type="Frobnicate"),
        ("Frobnicate", "ai.onnx", "--custom-ops"),
    ),
    "an op of an unknown domain": (
        of_domain("my.company", "Frobnicate"),
        ("Frobnicate", "my.company", "--custom-ops"),
    ),
    "a domain that is not imported": (
        of_domain("my.company", "Frobnicate", imported=False),
        ("Frobnicate", "my.company"),
    ),
    "an op that the runtime's domain does not have": (
        of_domain("com.microsoft", "Frobnicate"),
        ("Frobnicate", "com.microsoft"),
    ),
    "a type that is not so": (
        also("value_info", lambda: helper.make_tensor_value_info("h", TensorProto.INT64, None)),
        ("int64", "(h)"),
    ),
    "an output type that is not so": (
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.INT64),
        ("int64", "(y)"),
    ),
    "an input size that is not so": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 9),
        ("size 8", "'x'", "9"),
    ),
}


def spoiled(folder: Path, spoil: Spoil) -> list[str | Path]:
    """The model made worse, with data for the original: the arguments of `mipack prune`."""
    model = dense(folder / "m.onnx")
    spoil(model)
    onnx.save(model, folder / "m.onnx")
    values = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    return [folder / "m.onnx", "--calib", rows(folder / "c.npz", x=values), "--keep", "0.5"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_one_line_and_touches_nothing(name: str, tmp_path: Path) -> None:
    spoil, words = BROKEN[name]
    arguments = spoiled(tmp_path, spoil)
    out = tmp_path / "target" / "out.onnx"
    out.parent.mkdir()
    out.write_bytes(OLD)
    result = run("prune", *arguments, "-o", out, "--force", "-q")
    assert result.exit_code == 2, result.output
    text = " ".join(said(result))
    assert all(word in text for word in words), text
    assert out.read_bytes() == OLD and list(out.parent.iterdir()) == [out]


# ---------------------------------------------------------------- lies that do no harm


def declared(name: str, *shape: int | str) -> Spoil:
    return also("value_info", lambda: helper.make_tensor_value_info(name, FLOAT, shape))


def output_shape(*shape: int | str) -> Spoil:
    return lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, shape))


LIES = {
    "a stale size": (declared("h", "batch", 99), "'h': [batch, 99]"),
    "a stale rank": (declared("h", "batch", 16, 1), "'h': [batch, 16, 1]"),
    "a stale batch": (declared("r", 1, 16), "'r': [1, 16]"),
    "an output size": (output_shape("batch", 7), "'y': [batch, 7]"),
    "an output rank": (output_shape("batch", 3, 1), "'y': [batch, 3, 1]"),
    "an output batch": (output_shape(4, 3), "'y': [4, 3]"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_shape_that_is_not_so_is_said_once_and_not_believed(name: str, tmp_path: Path) -> None:
    spoil, words = LIES[name]
    out = tmp_path / "out.onnx"
    result = run("prune", *spoiled(tmp_path, spoil), "-o", out, "-q")
    assert result.exit_code == 0, result.output
    said_so = [line for line in result.stderr.splitlines() if "declares a wrong shape" in line]
    assert len(said_so) == 1 and words in said_so[0]
    x = np.zeros((5, 8), np.float32)
    (y,) = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert y.shape == (5, 3)


def test_a_true_shape_and_a_free_one_are_no_lies(tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        declared("h", "batch", 16)(model)
        declared("r", "rows", "columns")(model)

    result = run("prune", *spoiled(tmp_path, spoil), "-o", tmp_path / "o.onnx", "-q")
    assert result.exit_code == 0 and "declares" not in result.stderr


def test_inspect_says_it_too(tmp_path: Path) -> None:
    path = spoiled(tmp_path, declared("h", "batch", 99))[0]
    assert "[batch, 99]" in run("inspect", path).stderr


def test_nodes_of_one_name_and_constant_outputs_are_no_mistakes(tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        for each in model.graph.node:
            each.name = "same"
        model.graph.output.append(helper.make_tensor_value_info("b2", FLOAT, [3]))

    out = tmp_path / "o.onnx"
    result = run("prune", *spoiled(tmp_path, spoil), "-o", out, "-q")
    assert result.exit_code == 0, result.output
    assert [value.name for value in onnx.load(out).graph.output] == ["y", "b2"]


# ---------------------------------------------------------------- ops without a rule

THREE = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 8] x) => (float[batch, 3] y)
{
    h = MatMul(x, w1)
    e = Erf(h)
    m = MatMul(e, w2)
    r = Relu(m)
    y = MatMul(r, w3)
}
"""


def test_an_op_without_a_rule_freezes_what_it_touches_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(registry._RULES, "Erf")
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 16), "w2": (16, 12), "w3": (12, 3)}
    build(tmp_path / "m.onnx", THREE, **{k: rng.normal(size=s) for k, s in shapes.items()})
    data = rows(tmp_path / "c.npz", x=rng.normal(size=(64, 8)))

    found = json.loads(run("inspect", tmp_path / "m.onnx", "--json", "-q").stdout)
    assert found["unknown_ops"] == {"Erf": 1}
    held = {group["size"]: group for group in found["groups"]}
    assert held[16]["cause"] == "rule missing" and "Erf" in held[16]["reasons"][0]
    assert held[12]["state"] == "free" and held[12]["cause"] == ""
    assert {row["cause"] for row in found["frozen"]} == {"rule missing", "interface"}

    out = tmp_path / "o.onnx"
    result = run("prune", tmp_path / "m.onnx", "--calib", data, "--keep", "0.5", "-o", out, "-q")
    assert result.exit_code == 0, result.output
    sizes = {w.name: tuple(w.dims) for w in onnx.load(out).graph.initializer}
    assert sizes["w1"] == (8, 16) and sizes["w2"][0] == 16 and sizes["w2"][1] < 12


# ---------------------------------------------------------------- libraries of custom ops


def commands(model: str | Path, data: Path, out: Path) -> dict[str, list[str | Path]]:
    """Every command that loads a model."""
    return {
        "prune": [model, "--calib", data, "--keep", "0.5", "-o", out],
        "inspect": [model],
        "why": [model, "w1"],
        "eval": [model, model, "--data", data],
        "bench": [model, model, "--rounds", "6", "--seconds", "0.1"],
    }


@pytest.mark.parametrize("command", ["prune", "inspect", "why", "eval", "bench"])
def test_a_library_that_is_not_there_or_does_not_load(command: str, tmp_path: Path) -> None:
    model, _, data = spoiled(tmp_path, lambda m: None)[:3]
    arguments = commands(model, Path(data), tmp_path / "o.onnx")[command]
    library = tmp_path / "ops.so"
    result = run(command, *arguments, "--custom-ops", library, "-q")
    assert result.exit_code == 2 and "ops.so is not a file" in said(result)[0]
    library.write_text("this is no library")
    result = run(command, *arguments, "--custom-ops", library, "-q")
    assert result.exit_code == 2 and "ops.so cannot be loaded" in said(result)[0]
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize("command", ["prune", "inspect", "why", "eval", "bench"])
def test_every_session_gets_the_library(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    made: list[object] = []
    kind = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime.SessionOptions,
        "register_custom_ops_library",
        lambda self, path: given.append(path),
    )

    def session(*arguments: object, **settings: object) -> object:
        made.append(arguments)
        return kind(*arguments, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    library = tmp_path / "ops.so"
    library.write_text("its ops are registered by the runtime, which is not asked here")
    model, _, data = spoiled(tmp_path, lambda m: None)[:3]
    arguments = commands(model, Path(data), tmp_path / "o.onnx")[command]
    result = run(command, *arguments, "--custom-ops", library, "-q")
    assert result.exit_code == 0, result.output
    assert made and given == [str(library)] * len(made)
    given.clear()
    assert (
        run(command, *arguments, *(["--force"] if command == "prune" else []), "-q").exit_code == 0
    )
    assert not given
