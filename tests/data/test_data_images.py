"""Pictures: geometry, values, labels, zips, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipack.data.dataset import ReadOptions
from mipack.data.open import open_dataset
from mipack.data.pixels import Layout, Pixels
from mipack.errors import InputError
from mipack.records import Signature

Make = Callable[..., Signature]
Save = Callable[..., Path]


def read(path: Path, signature: Signature, beside: Path | None = None, **options: Any) -> Any:
    dataset = open_dataset(path, signature, ReadOptions(samples=None, **options), beside=beside)
    return np.concatenate([batch.feeds["x"] for batch in dataset.batches()])


def refused(path: Path, signature: Signature, beside: Path | None = None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, signature, beside, **options)
    assert "\n" not in str(caught.value)
    return f"{caught.value} | {caught.value.hint}"


def test_pixels_are_scaled_then_normalised(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    save_picture(tmp_path / "a.png", (255, 0, 51))
    nchw = signature(("x", "float32", ("batch", 3, 8, 8)))
    plain = read(tmp_path, nchw)
    assert plain.shape == (1, 3, 8, 8) and plain.dtype == np.float32
    np.testing.assert_allclose(plain[0, :, 0, 0], [1, 0, 0.2], rtol=1e-6)
    normal = read(tmp_path, nchw, mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 1.0))
    np.testing.assert_allclose(normal[0, :, 0, 0], [1, -2, 0], atol=1e-6)
    shared = read(tmp_path, nchw, mean=(0.5,))
    np.testing.assert_allclose(shared[0, :, 0, 0], [0.5, -0.5, -0.3], atol=1e-6)


def test_channels_last_grey_and_raw_inputs(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    picture = np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3)
    path = save_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(
        read(path, signature(("x", "uint8", (None, 8, 8, 3))))[0], picture
    )
    raw = read(path, signature(("x", "uint8", (None, 3, 8, 8))))[0]
    np.testing.assert_array_equal(raw, picture.transpose(2, 0, 1))
    grey = read(path, signature(("x", "float16", (None, 1, 8, 8))))
    assert grey.shape == (1, 1, 8, 8) and grey.dtype == np.float16
    assert read(path, signature(("x", "float32", (None, 8, 8, 1)))).shape == (1, 8, 8, 1)


def test_the_shorter_side_is_resized_then_the_centre_is_cut(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    picture = np.zeros((8, 24, 3), np.uint8)
    picture[:, 8:16] = 255  # the middle third is white
    path = save_picture(tmp_path / "a.png", picture)
    fixed = signature(("x", "float32", ("batch", 3, 4, 4)))
    assert read(path, fixed)[0, :, :, 1:3].min() > 0.9
    zoomed = read(path, fixed, resize=8)
    assert (zoomed == 1).all()  # 8 x 24 is kept, and the cut lies inside the white third
    free = signature(("x", "float32", ("batch", 3, "h", "w")))
    assert read(path, free, resize=4).shape == (1, 3, 4, 4)


@given(
    wide=st.integers(1, 300),
    high=st.integers(1, 300),
    crop=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    shorter=st.none() | st.integers(1, 64),
)
def test_a_resized_picture_always_covers_the_crop(
    wide: int, high: int, crop: tuple[int, int], shorter: int | None
) -> None:
    pixels = Pixels(
        layout=Layout(3, False, None, None),
        dtype="float32",
        shorter=shorter,
        squash=None,
        crop=crop,
        resample=2,
        rescale=1 / 255,
        mean=None,
        std=None,
    )
    size = pixels.size_of((wide, high))
    assert size[0] >= crop[1] and size[1] >= crop[0]


def test_a_free_size_keeps_each_picture_and_never_mixes_sizes(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    for at in range(4):
        save_picture(tmp_path / f"{at}.png", size=(8 + at % 2, 6))
    free = signature(("x", "float32", ("batch", 3, "h", "w")))
    dataset = open_dataset(tmp_path, free, ReadOptions())
    assert [b.feeds["x"].shape for b in dataset.batches()] == [(2, 3, 6, 8), (2, 3, 6, 9)]
    assert "own size" in dataset.description[1]
    strip = signature(("x", "float32", ("batch", 1, 12, "w")))
    shapes = [b.feeds["x"].shape for b in open_dataset(tmp_path, strip, ReadOptions()).batches()]
    assert shapes == [(2, 1, 12, 16), (2, 1, 12, 18)]


def test_a_static_batch_is_filled(tmp_path: Path, signature: Make, save_picture: Save) -> None:
    for at in range(3):
        save_picture(tmp_path / f"{at}.png")
    dataset = open_dataset(tmp_path, signature(("x", "float32", (2, 3, 8, 8))), ReadOptions())
    assert [(b.feeds["x"].shape[0], b.samples) for b in dataset.batches()] == [(2, 2), (2, 1)]


def test_class_folders_give_labels(tmp_path: Path, signature: Make, save_picture: Save) -> None:
    nchw = signature(("x", "float32", ("batch", 3, 8, 8)))
    for name in ("dog/1.png", "cat/2.jpg", "cat/1.png"):
        save_picture(tmp_path / "train" / name)
    for root in (tmp_path / "train", tmp_path):  # a folder that all share is no class
        dataset = open_dataset(root, nchw, ReadOptions())
        assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 1]
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nbird\ncat\n")
    labels = open_dataset(tmp_path, nchw, ReadOptions(classes=classes)).labels
    assert labels is not None and labels.tolist() == [2, 2, 0]
    classes.write_text("dog\n")
    assert "unknown class 'cat'" in refused(tmp_path, nchw, classes=classes)
    classes.write_text("dog\ndog\n")
    assert "each once" in refused(tmp_path, nchw, classes=classes)
    save_picture(tmp_path / "train" / "stray.png")
    assert open_dataset(tmp_path / "train", nchw, ReadOptions()).labels is None


def test_numbered_class_folders_are_sorted_names_too(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    for name in ("1", "2", "10"):
        save_picture(tmp_path / name / "a.png")
    dataset = open_dataset(tmp_path, signature(("x", "float32", (1, 3, 8, 8))), ReadOptions())
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 1, 2]  # 1, 10, 2


def zip_folder(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
        archive.writestr("__MACOSX/._a.png", b"junk")
        archive.writestr(f"{prefix}README", b"words")
    return path


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_a_zip_reads_like_the_folder_it_holds(
    tmp_path: Path, signature: Make, save_picture: Save, prefix: str
) -> None:
    nchw = signature(("x", "float32", ("batch", 3, 8, 8)))
    for at, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        save_picture(tmp_path / "files" / name, (at, 2 * at, 3))
    path = zip_folder(tmp_path / "files", tmp_path / "data.zip", prefix)
    zipped = open_dataset(path, nchw, ReadOptions())
    folder = open_dataset(tmp_path / "files", nchw, ReadOptions())
    assert zipped.labels is not None and zipped.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(read(path, nchw), read(tmp_path / "files", nchw))
    assert zipped.digest == folder.digest
    assert zipped.digest != zipped.subset([0, 1]).digest
    other = open_dataset(path, nchw, ReadOptions(mean=(0.5,)))
    assert zipped.digest != other.digest


def test_only_the_chosen_pictures_are_decoded(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    nchw = signature(("x", "float32", ("batch", 3, 8, 8)))
    for at in range(6):
        save_picture(tmp_path / f"{at}.png")
    (tmp_path / "0.png").write_bytes(b"damaged")
    dataset = open_dataset(tmp_path, nchw, ReadOptions(samples=None))
    assert sum(batch.samples for batch in dataset.subset([1, 4]).batches()) == 2
    with pytest.raises(InputError, match=r"0\.png: not a readable JPEG or PNG"):
        list(dataset.subset([0, 1]).batches())


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "..\\a.png", "C:/a.png"])
def test_zip_names_that_leave_the_archive_are_refused(
    tmp_path: Path, signature: Make, name: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    message = refused(tmp_path / "a.zip", signature(("x", "float32", (1, 3, 8, 8))))
    assert "leaves the archive" in message


def test_zips_without_pictures_damaged_or_several_are_refused(
    tmp_path: Path, signature: Make
) -> None:
    nchw = signature(("x", "float32", (1, 3, 8, 8)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.bmp", b"x")
    assert "no pictures in it" in refused(tmp_path / "a.zip", nchw)
    (tmp_path / "b.zip").write_bytes(b"PK")
    assert "b.zip: the file cannot be read" in refused(tmp_path / "b.zip", nchw)
    assert "holds 2 zips: a.zip, b.zip" in refused(tmp_path, nchw)


def test_bombs_are_refused_before_they_go_off(
    tmp_path: Path, signature: Make, monkeypatch: pytest.MonkeyPatch, save_picture: Save
) -> None:
    nchw = signature(("x", "float32", (1, 3, 8, 8)))
    save_picture(tmp_path / "p" / "a.png", 0, size=(15_000, 15_000), mode="1")
    assert "too large to be decoded safely" in refused(tmp_path / "p", nchw)
    save_picture(tmp_path / "q" / "a.png", 0, size=(11_000, 10_000), mode="1")
    assert "11000 x 10000 pixels" in refused(tmp_path / "q", nchw)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"0" * 2000)
    monkeypatch.setattr("mipack.data.images.MAX_BYTES", 1000)
    assert "too large to be unpacked safely" in refused(tmp_path / "a.zip", nchw)


def test_pictures_with_more_than_eight_bits_are_refused(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    save_picture(tmp_path / "a.png", np.full((8, 8), 40_000, np.uint16))
    assert "more than 8 bits" in refused(tmp_path, signature(("x", "float32", (1, 1, 8, 8))))


def test_a_truncated_picture_is_named(tmp_path: Path, signature: Make, save_picture: Save) -> None:
    path = save_picture(tmp_path / "a.png", np.random.default_rng(0).integers(
        0, 255, (64, 64, 3), dtype=np.uint8))  # fmt: skip
    path.write_bytes(path.read_bytes()[:2000])
    assert "a.png: the picture is damaged" in refused(
        tmp_path, signature(("x", "float32", (1, 3, 8, 8)))
    )


@pytest.mark.parametrize(
    ("specs", "options", "words"),
    [
        ([("x", "float32", ("n", 64))], {}, "takes no pictures"),
        ([("x", "float32", ("n", 4, 8, 8))], {}, "takes no pictures"),
        ([("x", "float32", ("n", "c", "h", "w"))], {}, "takes no pictures"),
        ([("x", "int8", ("n", 3, 8, 8))], {}, "takes no pictures"),
        ([("x", "float32", (1, 3, 8, 8)), ("z", "float32", (1, 5))], {}, "cannot feed"),
        ([("x", "float32", (1, 3, 8, 8))], {"resize": 4}, "--resize 4 is less than 8"),
        ([("x", "float32", (1, 3, 8, 8))], {"mean": (0.5, 0.5)}, "--mean has 2 values"),
        ([("x", "float32", (1, 3, 8, 8))], {"std": (0.0,)}, "each must be above 0"),
        ([("x", "uint8", (1, 3, 8, 8))], {"mean": (0.5,)}, "--mean and --std are given, but"),
        ([("x", "float32", (1, 3, 8, 8))], {"inputs": {"x": "image"}}, "no such field"),
    ],
)  # fmt: skip
def test_models_and_options_that_do_not_fit(
    tmp_path: Path, signature: Make, save_picture: Save, specs: Any, options: Any, words: str
) -> None:
    save_picture(tmp_path / "a.png")
    assert words in refused(tmp_path, signature(*specs), **options)


def configured(folder: Path, **entries: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(entries))
    return folder


def test_the_config_beside_the_model_is_used_and_options_win(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    save_picture(tmp_path / "data" / "a.png", (255, 255, 255), size=(30, 20))
    free = signature(("x", "float32", ("batch", 3, "h", "w")))
    beside = configured(
        tmp_path,
        size={"shortest_edge": 12},
        crop_size={"height": 10, "width": 6},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.25, 0.125],
        do_resize=True,
    )
    given = read(tmp_path / "data", free, beside)
    assert given.shape == (1, 3, 10, 6)
    np.testing.assert_allclose(given[0, :, 0, 0], [1, 2, 4], rtol=1e-6)
    other = read(tmp_path / "data", free, beside, mean=(0.0,), resize=8)
    assert other.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(other[0, :, 0, 0], [1, 1, 1], rtol=1e-6)
    fixed = signature(("x", "float32", ("batch", 3, 16, 16)))
    assert read(tmp_path / "data", fixed, beside).shape == (1, 3, 16, 16)


def test_config_steps_can_be_switched_off(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    save_picture(tmp_path / "data" / "a.png", (255, 255, 255), size=(9, 7))
    beside = configured(
        tmp_path, size=4, image_mean=[0.5], do_resize=False, do_rescale=False, do_normalize=False
    )
    free = signature(("x", "float32", ("batch", 3, "h", "w")))
    raw = read(tmp_path / "data", free, beside)
    assert raw.shape == (1, 3, 7, 9)
    assert (raw == 255).all()


def test_a_config_of_height_and_width_squeezes(
    tmp_path: Path, signature: Make, save_picture: Save
) -> None:
    picture = np.zeros((8, 24, 3), np.uint8)
    picture[:, :2] = 255  # a border that a centre crop would lose
    save_picture(tmp_path / "data" / "a.png", picture)
    beside = configured(tmp_path, size={"height": 8, "width": 8}, resample=0)
    free = signature(("x", "float32", ("batch", 3, "h", "w")))
    squeezed = read(tmp_path / "data", free, beside)
    assert squeezed.shape == (1, 3, 8, 8)
    assert squeezed[0, 0, :, 0].min() == 1 and squeezed[0, 0, :, 1:].max() == 0
    cut = configured(tmp_path, size={"height": 8, "width": 8}, crop_size=4, resample=0)
    assert (read(tmp_path / "data", free, cut) == 0).all()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"resample": 99}', '{"resample": "x"}', '{"image_mean": "x"}',
     '{"size": {"height": "a", "width": 1}}', '{"rescale_factor": null}'],
)  # fmt: skip
def test_a_broken_config_is_named(
    tmp_path: Path, signature: Make, save_picture: Save, text: str
) -> None:
    save_picture(tmp_path / "data" / "a.png")
    (tmp_path / "preprocessor_config.json").write_text(text)
    message = refused(tmp_path / "data", signature(("x", "float32", (1, 3, 8, 8))), tmp_path)
    assert "preprocessor_config.json" in message
