"""What `package` writes: configuration, warm-up, folder; and what it refuses."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra 'serve'")

import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import deserialize_bytes_tensor

from mipack.errors import InputError
from mipack.front import package
from mipack.front.deploy import Packaged
from mipack.serve.triton import Settings


def config(folder: Path, name: str) -> Any:
    text = (folder / name / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def packed(toys: Path, out: Path, name: str, **options: Any) -> Packaged:
    return package(toys / f"{name}.onnx", out, name=name, calib=toys / f"{name}.npz", **options)


# ---------------------------------------------------------------- the configuration


def test_the_signature_is_exact(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "words")
    found = config(tmp_path / "r", "words")
    assert found.max_batch_size == 32
    assert [(i.name, i.data_type, list(i.dims)) for i in found.input] == [
        ("text", model_config_pb2.TYPE_STRING, [2]),
        ("ids", model_config_pb2.TYPE_INT64, [-1]),
    ]
    assert [(o.name, list(o.dims)) for o in found.output] == [("same", [2]), ("next", [-1])]
    assert found.HasField("dynamic_batching")
    assert found.dynamic_batching.max_queue_delay_microseconds == 0
    assert found.version_policy.latest.num_versions == 1


def test_the_settings_are_told(toys: Path, tmp_path: Path) -> None:
    settings = Settings(
        max_batch_size=8, queue_delay=500, instances=3, device="gpu", intra_threads=2
    )
    packed(toys, tmp_path / "r", "totals", settings=settings)
    found = config(tmp_path / "r", "totals")
    assert found.max_batch_size == 8
    assert found.dynamic_batching.max_queue_delay_microseconds == 500
    assert found.instance_group[0].count == 3
    assert found.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    threads = {key: value.string_value for key, value in found.parameters.items()}
    assert threads == {"intra_op_thread_count": "2", "inter_op_thread_count": "1"}


def test_a_number_per_sample_is_reshaped(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "totals")
    total, y = config(tmp_path / "r", "totals").output
    assert (list(total.dims), total.HasField("reshape"), list(total.reshape.shape)) == (
        [1],
        True,
        [],
    )
    assert (list(y.dims), y.HasField("reshape")) == ([4], False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fixed", r"the first axis of input x \[2, 4\] is not a batch"),
        ("found", "output places has shape"),
        ("mixed", "depends on its neighbours"),
    ],
)
def test_what_cannot_be_batched_says_so(toys: Path, tmp_path: Path, name: str, reason: str) -> None:
    done = packed(toys, tmp_path / "r", name)
    found = config(tmp_path / "r", name)
    assert found.max_batch_size == 0 and not found.HasField("dynamic_batching")
    assert list(found.input[0].dims)[1:] == [4]  # the full shape
    assert {warm.batch_size for warm in found.model_warmup} == {1}
    assert re.search(reason, done.notes[0])
    for file in ("README.md", f"{name}/config.pbtxt"):
        assert "max_batch_size" in (tmp_path / "r" / file).read_text()
    with pytest.raises(InputError, match="--max-batch-size 4: the model cannot be batched"):
        packed(toys, tmp_path / "s", name, settings=Settings(max_batch_size=4))


def test_answers_that_depend_a_little_on_company_are_batched_with_a_warning(
    toys: Path, tmp_path: Path
) -> None:
    done = packed(toys, tmp_path / "r", "blurred")
    assert config(tmp_path / "r", "blurred").max_batch_size == 32
    assert "with what it is batched with" in done.notes[0]
    quiet = packed(toys, tmp_path / "s", "blurred", settings=Settings(max_batch_size=0))
    assert "asked for" in quiet.notes[0]


def test_batching_can_be_left_out(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "totals", settings=Settings(max_batch_size=0))
    found = config(tmp_path / "r", "totals")
    assert found.max_batch_size == 0 and list(found.input[0].dims) == [-1, 4]


# ---------------------------------------------------------------- files


def test_warm_up_files_hold_one_sample(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "words")
    alone, full = config(tmp_path / "r", "words").model_warmup
    assert (alone.batch_size, full.batch_size) == (1, 32)
    folder = tmp_path / "r" / "words" / "warmup"
    text, ids = alone.inputs["text"], alone.inputs["ids"]
    assert (list(text.dims), list(ids.dims)) == ([2], [3])
    words = deserialize_bytes_tensor((folder / text.input_data_file).read_bytes())
    numbers = np.fromfile(folder / ids.input_data_file, np.int64)
    with np.load(toys / "words.npz") as data:
        samples = [(list(t), list(i)) for t, i in zip(data["text"], data["ids"], strict=True)]
    assert ([word.decode() for word in words], list(numbers)) in samples


def test_smallest_and_largest_samples_warm_up(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (int64[N, L] ids) => (int64[N, L] out) { out = Identity(ids) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    feeds = [{"ids": np.zeros((1, length), np.int64)} for length in (5, 3, 9)]
    package(tmp_path / "m.onnx", tmp_path / "r", name="m", calib=feeds)
    found = config(tmp_path / "r", "m").model_warmup
    assert [(w.batch_size, list(w.inputs["ids"].dims)) for w in found] == [
        (1, [3]),
        (32, [3]),
        (1, [9]),
        (32, [9]),
    ]


def test_without_data_samples_are_made_up(toys: Path, tmp_path: Path) -> None:
    package(toys / "totals.onnx", tmp_path / "r", name="totals")
    assert not config(tmp_path / "r", "totals").model_warmup
    assert "made up" in (tmp_path / "r" / "README.md").read_text()
    with np.load(tmp_path / "r" / "samples.npz") as data:
        assert data["x"].shape[1:] == (4,)


def test_external_data_goes_along(digits: Path, tmp_path: Path) -> None:
    model = onnx.load(digits / "model.onnx")
    (tmp_path / "in" / "weights").mkdir(parents=True)
    onnx.save(
        model, tmp_path / "in" / "m.onnx", save_as_external_data=True, location="weights/m.data"
    )
    package(tmp_path / "in" / "m.onnx", tmp_path / "r", name="m")
    version = tmp_path / "r" / "m" / "1"
    assert (version / "model.onnx").read_bytes() == (tmp_path / "in" / "m.onnx").read_bytes()
    assert (version / "weights" / "m.data").is_file()
    (tmp_path / "in" / "weights" / "m.data").unlink()
    with pytest.raises(InputError, match=r"external data file m\.data .* is missing"):
        package(tmp_path / "in" / "m.onnx", tmp_path / "s", name="m")
    assert not (tmp_path / "s").exists()


def test_both_models_and_all_targets(toys: Path, tmp_path: Path) -> None:
    packed(
        toys,
        tmp_path / "r",
        "totals",
        original=toys / "totals.onnx",
        docker=True,
        kserve=True,
        storage_uri="pvc://claim/folder",
    )
    docker = (tmp_path / "r" / "Dockerfile").read_text()
    assert "COPY totals /models/totals\nCOPY totals-original /models/totals-original" in docker
    manifest = yaml.safe_load((tmp_path / "r" / "kserve.yaml").read_text())
    assert manifest["metadata"]["name"] == "totals"
    assert manifest["spec"]["predictor"]["model"]["storageUri"] == "pvc://claim/folder"
    readme = (tmp_path / "r" / "README.md").read_text()
    for part in ("## Canary", "kubectl apply -f kserve.yaml", "docker build", "not run"):
        assert part.lower() in readme.lower()
    assert "mipack query http://127.0.0.1:8000 totals-original --data samples.npz" in readme


def test_labels_belong_to_the_output_with_as_many_scores(digits: Path, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("\n".join(f"digit {n}" for n in range(10)))
    package(digits / "model.onnx", tmp_path / "r", name="d", labels=names)
    assert config(tmp_path / "r", "d").output[0].label_filename == "labels.txt"
    assert (tmp_path / "r" / "d" / "labels.txt").read_text().splitlines()[3] == "digit 3"
    names.write_text("one\ntwo\n")
    with pytest.raises(InputError, match="holds 2 names") as told:
        package(digits / "model.onnx", tmp_path / "s", name="d", labels=names)
    assert "logits has 10" in told.value.hint


# ---------------------------------------------------------------- the folder


def test_an_existing_folder_is_refused(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "totals")
    with pytest.raises(InputError, match="exists") as told:
        packed(toys, tmp_path / "r", "words")
    assert "--force" in told.value.hint
    packed(toys, tmp_path / "r", "words", force=True)
    assert not (tmp_path / "r" / "totals").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_only_what_it_made_is_replaced(toys: Path, tmp_path: Path) -> None:
    packed(toys, tmp_path / "r", "totals")
    (tmp_path / "r" / "totals" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"did not make: totals/notes\.txt"):
        packed(toys, tmp_path / "r", "totals", force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mipack-package.json").write_text("{}")
    with pytest.raises(InputError, match="did not make"):
        packed(toys, tmp_path / "other", "totals", force=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not a folder"):
        packed(toys, tmp_path / "file", "totals", force=True)
    with pytest.raises(InputError, match="does not exist"):
        packed(toys, tmp_path / "no" / "r", "totals")


def test_an_empty_folder_is_taken(toys: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    packed(toys, tmp_path / "r", "totals")
    assert (tmp_path / "r" / "totals").is_dir()


def test_a_failure_leaves_the_old_folder(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(toys, tmp_path / "r", "totals")
    before = (tmp_path / "r" / "mipack-package.json").read_text()
    rename = os.rename

    def failing(source: Any, target: Any) -> None:
        if Path(source).name == "new":
            raise OSError("no room")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(InputError, match="cannot write"):
        packed(toys, tmp_path / "r", "words", force=True)
    assert (tmp_path / "r" / "mipack-package.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_the_list_names_every_file(toys: Path, tmp_path: Path) -> None:
    done = packed(toys, tmp_path / "r", "totals")
    listed = json.loads((tmp_path / "r" / "mipack-package.json").read_text())
    assert listed["schema"] == "mipack-package/1"
    assert sorted(listed["files"]) == sorted(done.files)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "name", ["", "a b", "../a", "a/b", ".a", "-a", "ä", "a\n", "x" * 101, "README.md", "dockerfile"]
)
def test_names_that_cannot_be(toys: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        package(toys / "totals.onnx", tmp_path / "r", name=name)


@pytest.mark.parametrize("name", ["A", "a_b", "a.b", "1a", "a-", "x" * 51])
def test_names_that_a_cluster_refuses(toys: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="InferenceService"):
        package(
            toys / "totals.onnx", tmp_path / "r", name=name, kserve=True, storage_uri="s3://a/b"
        )


def test_a_manifest_needs_a_place(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the place"):
        package(toys / "totals.onnx", tmp_path / "r", name="a", kserve=True)
    with pytest.raises(InputError, match="means nothing"):
        package(toys / "totals.onnx", tmp_path / "r", name="a", storage_uri="s3://a/b")


def test_an_original_with_another_signature(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no original of"):
        package(toys / "totals.onnx", tmp_path / "r", name="a", original=toys / "mixed.onnx")


def test_types_that_cannot_be_sent(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (bfloat16[N, 4] x) => (bfloat16[N, 4] y) { y = Identity(x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="x is of type bfloat16"):
        package(tmp_path / "m.onnx", tmp_path / "r", name="m")
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 4] x) => (seq(float[N, 4]) y) { y = SequenceConstruct(x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="y is no tensor"):
        package(tmp_path / "m.onnx", tmp_path / "r", name="m")


def test_a_number_without_an_axis_cannot_be_served(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float sum) { sum = ReduceSum<keepdims = 0>(x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="sum is a single number") as told:
        package(tmp_path / "m.onnx", tmp_path / "r", name="m")
    assert "Unsqueeze" in told.value.hint
    assert not (tmp_path / "r").exists()


def test_inputs_may_be_called_anything(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 4] file, float[N, 4] allow_pickle) => (float[N, 4] y)
        { y = Add(file, allow_pickle) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    package(tmp_path / "m.onnx", tmp_path / "r", name="m")
    with np.load(tmp_path / "r" / "samples.npz") as data:
        assert sorted(data.files) == ["allow_pickle", "file"]


def test_names_of_tensors_do_not_reach_the_page(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"""
    model = onnx.parser.parse_model(text)
    evil = "x`\n<script>|{{ 7 }}"
    model.graph.input[0].name = model.graph.node[0].input[0] = evil
    onnx.save(model, tmp_path / "m.onnx")
    package(tmp_path / "m.onnx", tmp_path / "r", name="m")
    assert "<script>" not in (tmp_path / "r" / "README.md").read_text()
    assert config(tmp_path / "r", "m").input[0].name == evil
