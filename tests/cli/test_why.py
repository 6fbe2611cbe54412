"""The chains of `why`: every step is a node that joins two places of one atom."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from mipack.couple.listing import split_reason
from mipack.errors import InputError
from mipack.front.reasons import Explanation, why

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 4] x) => (float[batch, 6] y)
<float[4, 6] w = {0}, float[6] b = {0}> {
    h = MatMul(x, w)
    a = Add(h, b)
    r = Relu(a)
    y = Sigmoid(r)
}
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(TEXT.replace("= {0}", ""))
    for name, shape in (("w", (4, 6)), ("b", (6,))):
        size = 24 if name == "w" else 6
        tensor = onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, [0.5] * size)
        kept = [t for t in model.graph.initializer if t.name != name]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, tensor])
    onnx.save(model, tmp_path / "chain.onnx")
    return tmp_path / "chain.onnx"


def test_the_chain_leads_to_the_interface(chain: Path) -> None:
    (story,) = why(chain, "w", 1).axes
    (part,) = story.parts
    assert part.state == "frozen" and part.reason == "interface: y belongs to the signature"
    assert [step.op for step in part.chain] == ["MatMul", "Add", "Relu", "Sigmoid"]
    assert (part.chain[-1].tensor, part.chain[-1].axis) == ("y", 1)


def test_the_place_itself_needs_no_chain(chain: Path) -> None:
    assert why(chain, "y", 1).axes[0].parts[0].chain == ()


def test_a_dynamic_axis_is_no_group(chain: Path) -> None:
    (part,) = why(chain, "h", 0).axes[0].parts
    assert part.state == "dynamic" and part.group is None


def test_negative_axes_count_from_the_end(chain: Path) -> None:
    assert why(chain, "w", -1).axes == why(chain, "w", 1).axes


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_not_there(chain: Path, axis: int) -> None:
    with pytest.raises(InputError, match=f"no axis {axis}"):
        why(chain, "w", axis)


def test_every_step_joins_neighbours(digits: Path) -> None:
    """On the bundled example, for every weight: consecutive places share the node between them."""
    path = digits / "model.onnx"
    model = onnx.load(path)
    operands = {node.name: {*node.input, *node.output} for node in model.graph.node}
    for tensor in ("hidden1.weight", "head.weight", "widen.weight", "stem.weight"):
        for story in why(path, tensor).axes:
            for part in story.parts:
                here = tensor
                for step in part.chain:
                    assert {here, step.tensor} <= operands[step.node]
                    assert (step.tensor, step.axis) in part.tied
                    here = step.tensor
                if part.chain and not part.reason.startswith("interface"):
                    assert here in operands[split_reason(part.reason)[1].split(" ")[1]]


def test_the_record_is_plain(chain: Path) -> None:
    found = why(chain, "w")
    assert isinstance(found, Explanation)
    assert found.to_json()["tensor"] == "w"


@pytest.mark.parametrize(
    ("reason", "parts"),
    [
        ("interface: my y belongs to the signature", ("belongs to the signature", "my y")),
        ("no rule for Foo [Foo /a/b c]", ("no rule for Foo", "Foo /a/b c")),
        ("static part of a concatenation", ("static part of a concatenation", "")),
        ("form (x [1]) [Conv n[0]]", ("form (x [1])", "Conv n[0]")),
    ],
)
def test_reasons_name_their_place(reason: str, parts: tuple[str, str]) -> None:
    assert split_reason(reason) == parts
