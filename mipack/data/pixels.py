"""From the bytes of a picture to the numbers of an image input.

    pixels --resize, centre crop--> H x W x C --x rescale, (x - mean) / std--> NCHW or NHWC

The geometry comes from the model's input, else from `--resize`, else from the model's
`preprocessor_config.json`; integer inputs get raw pixels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipack.data.checks import dtype_of, is_float, shown
from mipack.data.dataset import Array, ReadOptions
from mipack.errors import InputError
from mipack.records import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 100_000_000
"""A picture that claims more is refused before it is decoded."""
BILINEAR = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an image input keeps channels (1 or 3), and its fixed (H, W), if any."""

    channels: int
    last: bool
    height: int | None
    width: int | None


@dataclass(frozen=True, slots=True)
class Pixels:
    """The preparation in force: everything that changes a number is in these fields.

    shorter     the shorter side is brought to it (more where the crop needs it)
    squash      (H, W) to resize to instead, without keeping the proportions
    crop        (H, W) cut from the centre; None keeps each picture's own size
    mean, std   one per channel; None where pixels are only scaled
    """

    layout: Layout
    dtype: str
    shorter: int | None
    squash: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    rescale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @property
    def raw(self) -> bool:
        """Integer inputs get 0..255."""
        return not is_float(dtype_of(self.dtype))

    def describe(self) -> tuple[str, ...]:
        """What is done, for the user."""
        colour = "grey" if self.layout.channels == 1 else "RGB"
        order = "NHWC" if self.layout.last else "NCHW"
        values = f"pixels 0..255 as {self.dtype}" if self.raw else f"pixels x {self.rescale:.6g}"
        if not self.raw and self.mean is not None:
            values += f", then (x - {list(self.mean)}) / {list(self.std or ())}"
        return f"{colour}, {order}, {self._geometry()}", values

    def _geometry(self) -> str:
        if self.crop is None and (self.layout.height or self.layout.width):
            fixed = (
                ("height", self.layout.height)
                if self.layout.height
                else ("width", self.layout.width)
            )
            return "resized to {} {}, in proportion".format(*fixed)
        if self.crop is None:
            kept = "every picture keeps its own size (give --resize for one)"
            return kept if self.shorter is None else f"shorter side {self.shorter}"
        area = f"{self.crop[0]} x {self.crop[1]}"
        if self.squash == self.crop:
            return f"resized to {area}"
        if self.squash is not None:
            return f"resized to {self.squash[0]} x {self.squash[1]}, centre crop {area}"
        return f"shorter side {self.shorter or max(self.crop)}, centre crop {area}"

    def size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (W, H) that a picture of this (W, H) is resized to before the crop."""
        if self.squash is not None:
            return self.squash[1], self.squash[0]
        wide, high = size
        scale = self.shorter / min(size) if self.shorter else 0.0
        if self.crop is not None:  # never smaller than the crop: no invented black border
            scale = max(scale, self.crop[0] / high, self.crop[1] / wide)
        elif self.layout.height:
            scale = self.layout.height / high
        elif self.layout.width:
            scale = self.layout.width / wide
        scale = scale or 1.0
        return max(round(wide * scale), 1), max(round(high * scale), 1)

    def shape_of(self, data: bytes, place: str) -> tuple[int, int]:
        """(H, W) of the result, from the header alone."""
        if self.crop is not None:
            return self.crop
        with open_picture(data, place) as image:
            wide, high = self.size_of(image.size)
        return high, wide

    def prepare(self, data: bytes, place: str) -> Array:
        """The picture as [C, H, W] or [H, W, C] of the input's type."""
        grey = self.layout.channels == 1
        with open_picture(data, place) as image:
            picture = self._resize(_decode(image, "L" if grey else "RGB", place))
        values = np.asarray(picture)
        values = values[:, :, None] if grey else values  # [H, W, C]
        if not self.raw:
            values = values.astype(np.float32) * np.float32(self.rescale)
            if self.mean is not None:
                mean, std = np.asarray(self.mean), np.asarray(self.std)
                values = (values - mean.astype(np.float32)) / std.astype(np.float32)
        if not self.layout.last:
            values = values.transpose(2, 0, 1)
        return values.astype(dtype_of(self.dtype))

    def _resize(self, image: Image) -> Image:
        wanted = self.size_of(image.size)
        if wanted != image.size:
            image = image.resize(wanted, resample=self.resample)
        if self.crop is None or (image.height, image.width) == self.crop:
            return image
        high, wide = self.crop
        top, left = (image.height - high) // 2, (image.width - wide) // 2
        return image.crop((left, top, left + wide, top + high))


def find_layout(spec: TensorSpec) -> Layout | None:
    """How this input would take pictures: rank 4 with an axis of size 1 or 3 in second or last
    place; None if it does not."""
    shape = spec.shape
    if shape is None or len(shape) != 4 or spec.dtype in ("int8", "bool", "str"):
        return None
    for axis in (1, 3):
        channels = shape[axis]
        if isinstance(channels, int) and channels in (1, 3):
            high, wide = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
            fixed = [size if isinstance(size, int) else None for size in (high, wide)]
            return Layout(channels, axis == 3, fixed[0], fixed[1])
    return None


def find_pixels(spec: TensorSpec, options: ReadOptions, beside: Path | None) -> Pixels:
    """The preparation for this input. Raises InputError where options contradict the model."""
    layout = find_layout(spec)
    if layout is None:
        raise InputError(
            f"the model's input {spec.name!r} ({spec.dtype} {shown(spec.shape)}) takes no pictures",
            hint="an image input has rank 4 and a channel axis of size 1 or 3; or give .npz files",
        )
    try:
        pixels = _combine(spec.dtype, layout, options, _config(beside))
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{beside}/preprocessor_config.json: not understood ({error})",
            hint="repair or remove it; --mean, --std and --resize say the same",
        ) from error
    if pixels.raw and (options.mean or options.std):
        raise InputError(
            f"--mean and --std are given, but input {spec.name!r} is {spec.dtype}",
            hint="integer inputs get raw pixels: leave both out",
        )
    return pixels


def _combine(dtype: str, layout: Layout, options: ReadOptions, config: Mapping[str, Any]) -> Pixels:
    """Options over the config over what the input says itself."""
    shorter, squash, crop = _geometry(layout, options, config)
    mean, std = _normalisation(layout, options, config)
    return Pixels(
        layout=layout,
        dtype=dtype,
        shorter=shorter,
        squash=squash,
        crop=crop,
        resample=range(6)[int(config.get("resample", BILINEAR))],
        rescale=float(config.get("rescale_factor", 1 / 255)) if _do(config, "rescale") else 1.0,
        mean=mean,
        std=std,
    )


def _config(beside: Path | None) -> dict[str, Any]:
    """The model's preprocessor_config.json, if there is one. Raises InputError if it is broken."""
    path = None if beside is None else beside / "preprocessor_config.json"
    if path is None or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON", hint="repair or remove it") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a JSON object", hint="repair or remove it")
    return config


def _do(config: Mapping[str, Any], step: str) -> bool:
    return bool(config.get(f"do_{step}", True))


def _geometry(
    layout: Layout, options: ReadOptions, config: Mapping[str, Any]
) -> tuple[int | None, tuple[int, int] | None, tuple[int, int] | None]:
    """(shorter, squash, crop): the crop is the model's size, else --resize, else the config's."""
    _check_size(layout, options.resize)
    size = config.get("size") if _do(config, "resize") and options.resize is None else None
    cut = _area(config.get("crop_size")) if _do(config, "center_crop") else None
    exact = _area(size) if _exact(size) else None
    shorter = options.resize or _shorter(size)
    square = (shorter, shorter) if shorter else None
    area = (square if options.resize else cut or exact or square) or (None, None)
    high, wide = layout.height or area[0], layout.width or area[1]
    if high is None or wide is None:
        return shorter, None, None
    if exact and (cut is None or exact[0] < high or exact[1] < wide):
        exact = (high, wide)
    return shorter, exact, (high, wide)


def _check_size(layout: Layout, size: int | None) -> None:
    """Raise InputError for a --resize from which the model's input cannot be cut."""
    least = max(layout.height or 1, layout.width or 1)
    if size is not None and size < least:
        raise InputError(
            f"--resize {size} is less than {least}, which the model's input needs",
            hint="leave --resize out, or make it larger",
        )


def _exact(size: Any) -> bool:
    return isinstance(size, Mapping) and "height" in size and "width" in size


def _shorter(size: Any) -> int | None:
    if isinstance(size, Mapping):
        size = size.get("shortest_edge")
    return int(size) if isinstance(size, int | float) else None


def _area(size: Any) -> tuple[int, int] | None:
    """(H, W) of a config entry: a number, or height and width."""
    if _exact(size):
        return int(size["height"]), int(size["width"])
    return (int(size), int(size)) if isinstance(size, int) else None


def _normalisation(
    layout: Layout, options: ReadOptions, config: Mapping[str, Any]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and std, one per channel or both None."""
    given_mean, given_std = options.mean, options.std
    if given_mean is None and given_std is None and _do(config, "normalize"):
        given_mean, given_std = config.get("image_mean"), config.get("image_std")
    if given_mean is None and given_std is None:
        return None, None
    mean = _per_channel("--mean", given_mean, 0.0, layout.channels)
    std = _per_channel("--std", given_std, 1.0, layout.channels)
    if not all(value > 0 for value in std):
        raise InputError(f"--std {list(std)}: each must be above 0")
    return mean, std


def _per_channel(name: str, values: Any, default: float, channels: int) -> tuple[float, ...]:
    """One finite number per channel; one number serves all. Raises InputError otherwise."""
    given = (default,) if values is None else tuple(np.atleast_1d(values).tolist())
    if len(given) not in (1, channels) or not np.isfinite(given).all():
        raise InputError(
            f"{name} has {len(given)} values, the model's input has {channels} channels",
            hint=f"give {channels}, separated by commas",
        )
    return tuple(map(float, given * (channels if len(given) == 1 else 1)))


def open_picture(data: bytes, place: str) -> Image:
    """The picture, not yet decoded. Raises InputError where it is none, or claims to be huge."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
    except Image.DecompressionBombError as error:
        raise _bomb(place, str(error)) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{place}: not a readable JPEG or PNG picture") from error
    if image.width * image.height > MAX_PIXELS:
        raise _bomb(place, f"{image.width} x {image.height} pixels")
    return image


def _bomb(place: str, what: str) -> InputError:
    return InputError(
        f"{place}: too large to be decoded safely ({what})",
        hint=f"pictures may have {MAX_PIXELS:,} pixels",
    )


def _decode(image: Image, mode: str, place: str) -> Image:
    if image.mode.startswith(("I", "F")):
        # Pillow clips such pixels to 0..255: numbers would be wrong without a word.
        raise InputError(
            f"{place}: more than 8 bits per channel", hint="convert it, or give .npz files"
        )
    try:
        return image.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{place}: the picture is damaged") from error
