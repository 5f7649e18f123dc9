"""Pixels as numbers: depths, floats, channels."""

import numpy as np
import pytest

from img2img.imaging.files import (
    from_float,
    to_channels,
    to_float,
)
from tests.imaging.samples import noise


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_float_and_back_is_exact_for_every_value(dtype):
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    floats = to_float(values)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (0, 1)
    assert np.all(np.diff(floats) > 0)
    back = from_float(floats, np.dtype(dtype))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, values)


def test_from_float_rounds_and_clamps():
    values = np.array([-1, 0, 0.49, 0.51, 1.49, 1.51, 254.51, 255, 256, np.inf], np.float32) / 255
    assert from_float(values, np.dtype(np.uint8)).tolist() == [0, 0, 0, 1, 1, 2, 255, 255, 255, 255]
    assert from_float(np.float32([-1, 0.25, 2]), np.dtype(np.float32)).tolist() == [0, 0.25, 1]


def test_conversions_refuse_nan_and_other_types():
    with pytest.raises(ValueError, match="NaN"):
        from_float(np.float32([0, np.nan]), np.dtype(np.uint8))
    with pytest.raises(ValueError, match="int32"):
        from_float(np.float32([0]), np.dtype(np.int32))
    with pytest.raises(ValueError, match="int64"):
        to_float(np.array([1, 2]))
    floats = np.float32([-3, 7])
    np.testing.assert_array_equal(to_float(floats), floats)


def test_to_channels():
    rgb = noise(40, 50, 3)
    gray = to_channels(rgb, 1)
    assert gray.shape == (40, 50, 1)
    assert gray.dtype == np.uint8
    exact = rgb.astype(np.float64) @ [0.299, 0.587, 0.114]
    assert np.abs(gray[..., 0] - exact).max() < 0.5001
    np.testing.assert_array_equal(to_channels(gray, 3), np.repeat(gray, 3, 2))
    assert to_channels(rgb, 3) is rgb
    with pytest.raises(ValueError, match="3 channels to 2"):
        to_channels(rgb, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_through_rgb_is_exact(dtype):
    gray = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(1, -1, 1)
    np.testing.assert_array_equal(to_channels(to_channels(gray, 3), 1), gray)
