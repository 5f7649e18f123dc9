from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from img2img.anomaly.detection import OVERALL
from img2img.anomaly.masked_pixels import MaskedPixels
from img2img.tasks.thresholds import Threshold

SHAPE = (40, 50)


@pytest.fixture
def truth(tmp_path) -> dict[str, np.ndarray]:
    """Masks of three images: a large region with a pixel that touches it by a corner only, two regions, and one."""
    masks = {name: np.zeros(SHAPE, bool) for name in ("hole/a", "hole/b", "crack/c")}
    masks["hole/a"][5:15, 5:25] = masks["hole/a"][15, 25] = True
    masks["hole/b"][2:4, 2:5] = masks["hole/b"][30:38, 10:40] = True
    masks["crack/c"][20, 3:45] = True
    for name, mask in masks.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((mask * 255).astype(np.uint8)).save(path)
    return masks


def maps(truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    found = {name: draws.beta(1, 20, SHAPE) + mask * draws.beta(1, 8, SHAPE) for name, mask in truth.items()}
    return {name: values.astype(np.float32) for name, values in found.items()} | {
        "good/d": draws.beta(1, 20, SHAPE).astype(np.float32)
    }


def counting(truth: dict[str, np.ndarray], folder: Path, normal: str = "good") -> MaskedPixels:
    masks = {name: folder / f"{name}.png" for name in truth}
    pixels = MaskedPixels(masks, {normal}, {"map": Threshold(0.15, 0.99)})
    for name, values in maps(truth).items():
        pixels.add(name, name.split("/")[0], SHAPE, {"": values})
    return pixels


def brute_force_aupro(regions: list[np.ndarray], outside: np.ndarray) -> float:
    """By its definition, threshold by threshold."""
    rates, overlaps = [0.0], [0.0]
    for limit in np.sort(np.unique(np.concatenate([*regions, outside])))[::-1]:
        rates.append(np.mean(outside >= limit))
        overlaps.append(np.mean([np.mean(values >= limit) for values in regions]))
    return float(np.interp(np.linspace(0, 0.3, 100_001), rates, overlaps).mean())


def test_figures_are_those_of_a_direct_computation_over_all_pixels(truth, tmp_path):
    pixels, values = counting(truth, tmp_path), maps(truth)
    table = pixels.gathered_quality()
    assert list(table) == ["crack", "hole", OVERALL]
    whole = truth | {"good/d": np.zeros(SHAPE, bool)}
    for label, names in (("hole", ("hole/a", "hole/b", "good/d")), (OVERALL, tuple(whole))):
        mask, scores = (np.concatenate([images[name].ravel() for name in names]) for images in (whole, values))
        quality = table[label]["pixels"]
        assert quality.auroc == pytest.approx(roc_auc_score(mask, scores), abs=2e-4)
        assert quality.average_precision == pytest.approx(average_precision_score(mask, scores), abs=2e-3)
        assert quality.at_threshold.f1 == pytest.approx(f1_score(mask, scores > 0.15), abs=2e-3)
    a, b = values["hole/a"], values["hole/b"]
    regions = [a[truth["hole/a"]], b[2:4, 2:5].ravel(), b[30:38, 10:40].ravel()]
    outside = np.concatenate([a[~truth["hole/a"]], b[~truth["hole/b"]], values["good/d"].ravel()])
    assert table["hole"]["pixels"].aupro == pytest.approx(brute_force_aupro(regions, outside), abs=2e-3)
    assert not pixels.problems


def test_memory_does_not_grow_with_the_images(truth, tmp_path):
    pixels = counting(truth, tmp_path)
    histograms = len(pixels.counts)
    for _ in range(3):
        pixels.add("hole/a", "hole", SHAPE, {"": maps(truth)["hole/a"]})
    assert len(pixels.counts) == histograms == 9


def test_without_a_normal_pixel_or_a_masked_one_there_are_no_figures(truth, tmp_path):
    assert counting(truth, tmp_path, normal="hole").gathered_quality().keys() == {"crack"}
    whole = MaskedPixels({}, {"good"}, {})
    whole.add("good/d", "good", SHAPE, {"": maps(truth)["good/d"]})
    assert whole.gathered_quality() == {}
