import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import img2img
from img2img.anomaly.calibration import calibrate
from img2img.errors import UserError
from img2img.latents.runner import Devices
from img2img.tasks import Autoencoder
from tests.anomaly.calibrated import LINEAR, make, whole
from tests.commands.models import save_model

CPU = {"accelerator": "cpu", "devices": 1}
PLAIN = ("error", "top_error", "local_error", "mahalanobis", "neighbour")


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_of_pca_are_those_of_a_linear_autoencoder_that_is_pca(linear, parts):
    scores = img2img.score(parts, "out.csv", linear, **CPU)
    rows = read("out.csv")
    flags = ["abnormal", "trained_on", "near_duplicate"]
    assert list(rows[0]) == ["path", "label", *PLAIN, *(f"pca_{name}" for name in PLAIN), *flags]
    assert [(row["path"], row["label"]) for row in rows] == [
        *((f"good/{i:02}.png", "good") for i in range(6)),
        *((f"spot/{i:02}.jpg", "spot") for i in range(6)),  # and no mask
    ]
    for name in PLAIN:
        own, reference = ([float(row[prefix + name]) for row in rows] for prefix in ("", "pca_"))
        assert own == pytest.approx(reference, rel=1e-3)
        assert own == pytest.approx([row[name] for row in scores.rows], rel=1e-7)
    assert [row["abnormal"] for row in rows] == [str(int(row["abnormal"])) for row in scores.rows]


def test_scores_are_returned_and_nothing_is_printed_or_changed(linear, parts, capsys):
    (parts / "good" / "broken.png").write_bytes(b"no image")
    before = linear.statistics
    scores = img2img.score(parts, None, linear.train(), **CPU)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert linear.training
    assert linear.statistics is before
    assert scores.recommended == "neighbour"
    assert scores.names == (*PLAIN, *(f"pca_{name}" for name in PLAIN))
    assert len(scores.problems) == 1
    assert "broken.png" in scores.problems[0]
    ranked = [row["neighbour"] for row in scores.ranked()]
    assert ranked == sorted((row["neighbour"] for row in scores.rows), reverse=True)


def test_another_score_of_the_model_can_decide(linear, parts):
    scores = img2img.score(parts, None, linear, by="top_error", **CPU)
    assert scores.recommended == "top_error"
    assert [row["abnormal"] for row in scores.rows] == [
        row["top_error"] > scores.thresholds["top_error"] for row in scores.rows
    ]
    ranked = [row["top_error"] for row in scores.ranked()]
    assert ranked == sorted(ranked, reverse=True)
    with pytest.raises(UserError, match=r"--by sharpness: .* has no such score; it has error, top_error, "):
        img2img.score(parts, None, linear, by="sharpness", **CPU)


def test_verdicts_are_counted_by_the_labels(linear, parts):
    scores = img2img.score(parts, None, linear, quantile=0.5, **CPU)
    above = {label: [row["abnormal"] for row in scores.rows if row["label"] == label] for label in ("good", "spot")}
    assert scores.verdicts == (6, sum(above["good"]), 6, 6 - sum(above["spot"]))
    assert img2img.score(parts / "spot", None, linear, **CPU).verdicts is None, "nothing says which are normal"
    alone = img2img.score(parts / "good", None, linear, normal=["."], **CPU)
    assert alone.verdicts[2:] == (0, 0)
    assert alone.table == {}


def test_images_that_were_trained_on_are_left_out_of_the_figures(linear, trained_on, parts):
    for path in sorted((trained_on / "train").iterdir()):
        shutil.copy(path, parts / "good" / f"seen-{path.name}")
    scores = img2img.score(parts, None, linear, **CPU)
    fresh = [row for row in scores.rows if not row["trained_on"]]
    assert [row["path"] for row in fresh] == [row["path"] for row in scores.rows if "seen" not in row["path"]]
    assert scores.table["spot"]["error"].auroc == roc_auc_score(
        [row["label"] == "spot" for row in fresh], [row["error"] for row in fresh]
    )
    assert (scores.verdicts.normal, scores.verdicts.abnormal) == (6, 6)


def test_near_duplicates_of_training_images_are_told_from_new_ones_and_count(linear, trained_on, parts):
    for path in sorted((trained_on / "train").iterdir()):
        image = Image.open(path)
        moved = image.crop((1, 0, image.width, image.height - 1)).point(lambda value: 0.8 * value + 10)
        moved.save(parts / "good" / f"again-{path.stem}.jpg", quality=90)
    scores = img2img.score(parts, "out.csv", linear, **CPU)
    again = [row for row in scores.rows if "again" in row["path"]]
    assert len(again) == 16
    assert not any(row["trained_on"] for row in scores.rows)
    assert all(row["near_duplicate"] == ("again" in row["path"]) for row in scores.rows)
    assert scores.verdicts.normal == 22
    assert [row["near_duplicate"] for row in read("out.csv")] == [
        str(int(row["near_duplicate"])) for row in scores.rows
    ]


def test_a_model_of_an_earlier_version_knows_no_training_images(linear, trained_on, parts):
    linear.statistics = replace(linear.statistics, thresholds=replace(linear.statistics.thresholds, fingerprints=None))
    shutil.copy(trained_on / "train" / "00.png", parts / "good" / "seen.png")
    scores = img2img.score(parts, None, linear, **CPU)
    assert not any(row["trained_on"] or row["near_duplicate"] for row in scores.rows)


def test_figures_are_scikit_learns_and_the_map_finds_the_square(linear, parts):
    scores = img2img.score(parts, None, linear, **CPU)
    truth = [row["label"] == "spot" for row in scores.rows]
    assert list(scores.table) == ["spot"]
    for name in scores.names:
        values = [row[name] for row in scores.rows]
        assert scores.table["spot"][name].auroc == roc_auc_score(truth, values)
        assert scores.table["spot"][name].average_precision == average_precision_score(truth, values)
        decided = [row[name] > scores.thresholds[name] for row in scores.rows]
        assert scores.table["spot"][name].at_threshold.f1 == pytest.approx(f1_score(truth, decided))
    assert scores.table["spot"]["error"].auroc > 0.9
    pixels = scores.table["spot"]["pixels"].auroc
    assert pixels > 0.9
    assert scores.table["spot"]["pca_pixels"].auroc == pytest.approx(pixels, abs=0.01)


def test_the_verdict_is_the_thresholds_and_the_quantile_moves_it(linear, parts):
    default, strict = (img2img.score(parts, None, linear, quantile=q, **CPU) for q in (None, 0.01))
    held = linear.statistics.thresholds.scores["neighbour"]
    assert default.thresholds["neighbour"] == held.threshold
    assert default.quantile == 0.95
    for scores in (default, strict):
        for row in scores.rows:
            assert row["abnormal"] == (row["neighbour"] > scores.thresholds["neighbour"])
    assert strict.thresholds["neighbour"] == pytest.approx(np.quantile(held.normal.double().numpy(), 0.01))
    assert sum(row["abnormal"] for row in strict.rows) > sum(row["abnormal"] for row in default.rows)


def test_masks_in_a_folder_of_their_own(linear, parts):
    apart = parts / "masks"
    (parts / "spot_masks").rename(parts / "spare")
    apart.mkdir()
    (parts / "spare").rename(apart / "spot")
    scores = img2img.score(parts, None, linear, masks=str(apart), **CPU)
    assert len(scores.rows) == 12
    assert scores.table["spot"]["pixels"].auroc > 0.9


def test_a_map_that_cannot_be_written_is_named_and_the_rest_go_on(linear, parts):
    Path("maps/spot/01.map.png").mkdir(parents=True)
    scores = img2img.score(parts, "out.csv", linear, maps="maps", overwrite=True, **CPU)
    assert len(scores.problems) == 1
    assert "the map of" in scores.problems[0]
    assert len(read("out.csv")) == 12
    assert len(list(Path("maps").rglob("*.overlay.png"))) == 11


def test_one_image_without_any_label(linear, parts):
    scores = img2img.score(parts / "spot" / "00.jpg", None, linear, **CPU)
    assert [(row["path"], row["label"]) for row in scores.rows] == [("00.jpg", "")]
    assert scores.table == {}


def test_what_cannot_be_meant_is_said_in_one_line(linear, parts):
    def message(**options: object) -> str:
        arguments = {"input": parts, "output": "out.csv", "model": linear} | options
        with pytest.raises(UserError) as raised:
            img2img.score(**arguments, **CPU)  # type: ignore[arg-type]
        return str(raised.value)

    assert "name it .csv" in message(output="out.npz")
    assert "is inside the input" in message(output=parts / "out.csv")
    assert "is inside the input" in message(maps=parts / "maps")
    assert "is inside the input" in message(tensorboard=parts / "board")
    assert "does not exist" in message(input="nowhere")
    assert "no folder of this name" in message(normal=["fine"])
    assert "has a mask there" in message(masks="_truth")
    assert "between 0 and 1" in message(quantile=1.5)
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    assert "--maps full is not empty" in message(maps="full")
    assert "--tensorboard full is not empty" in message(tensorboard="full")
    assert "the model does not know yet what is normal" in message(model=make(LINEAR))
    restoring = save_model(Path("m.ckpt"))
    assert "m.ckpt (Restoration) does not say how abnormal images are" in message(model=restoring)


def test_folders_within_folders_keep_their_kind(linear, parts):
    for kind in ("good", "spot", "spot_masks"):
        (parts / kind / "monday").mkdir()
        for path in sorted((parts / kind).glob("0[0-3].*")):
            path.rename(parts / kind / "monday" / path.name)
    scores = img2img.score(parts, None, linear, **CPU)
    assert len(scores.rows) == 12
    assert list(scores.table) == ["spot", "spot/monday", "all abnormal"]
    assert scores.table["spot/monday"]["pixels"].auroc > 0.9
    assert list(img2img.score(parts / "good", None, linear, normal=["."], **CPU).table) == ["monday"]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_precision_changes_digits_alone(parts, precision, convolutional_checkpoint):
    expected = img2img.score(parts, None, convolutional_checkpoint, **CPU)
    found = img2img.score(parts, None, convolutional_checkpoint, precision=precision, **CPU)
    errors = [[row["error"] for row in scores.rows] for scores in (expected, found)]
    assert errors[1] == pytest.approx(errors[0], rel=2e-2)
    if precision == "bf16-mixed":  # thresholds were measured in full precision
        assert errors[0] == errors[1]


def test_an_image_without_finite_values_is_named_and_the_rest_go_on(linear, parts):
    pixels = np.full((32, 44), 0.5, np.float32)
    pixels[3, 4] = np.nan
    Image.fromarray(pixels).save(parts / "good" / "nan.tif")
    scores = img2img.score(parts, None, linear, maps="maps", **CPU)
    assert (len(scores.rows), len(scores.problems)) == (12, 1)
    assert "nan.tif: it contains NaN or infinity" in scores.problems[0]


def test_normal_folders_can_be_named(linear, parts):
    scores = img2img.score(parts, None, linear, normal=["spot"], **CPU)
    assert list(scores.table) == ["good"]
    assert scores.table["good"]["error"].auroc < 0.2


def test_a_model_with_a_bound_is_compared_with_probabilistic_pca(linear, parts, trained_on, monkeypatch):
    pca = linear.statistics.pca
    monkeypatch.setattr(Autoencoder, "elbo_of", lambda self, batch: -pca.nats(batch["image"]) / 2)
    calibrate(linear, whole(trained_on), Devices("cpu", 1))
    scores = img2img.score(parts, None, linear, **CPU)
    assert {"neg_elbo", "pca_neg_elbo"} < set(scores.names)
    for row in scores.rows:
        assert row["neg_elbo"] == pytest.approx(row["pca_neg_elbo"] / 2)
    assert scores.table["spot"]["neg_elbo"] == scores.table["spot"]["pca_neg_elbo"]


def test_names_that_a_spreadsheet_would_compute_are_not_formulas(linear, parts):
    image = next(path for path in parts.rglob("*.png"))
    image.rename(parts / "=1+2.png")
    img2img.score(parts, "out.csv", linear, accelerator="cpu", devices=1)
    with open("out.csv", newline="", encoding="utf-8") as file:
        names = {row["path"] for row in csv.DictReader(file)}
    assert "./=1+2.png" in names
    assert not any(name.startswith("=") for name in names)
