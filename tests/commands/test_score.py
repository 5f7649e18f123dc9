import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

import img2img
from img2img.cli import main
from img2img.commands.applying import Devices
from img2img.commands.calibrate import calibrate
from img2img.errors import UserError
from img2img.tasks import Autoencoder
from tests.commands.calibrated import CONVOLUTIONAL, LINEAR, make, pieces, whole
from tests.commands.models import save_task
from tests.commands.test_distributed import run

CPU = {"accelerator": "cpu", "devices": 1}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder good/ and a folder spot/, whose images have a bright square that spot_masks/ tells; not trained on."""
    root = tmp_path / "parts"
    pieces(root / "good", 6, 40, (44, 32))
    pieces(root / "spot", 6, 50, (42, 32))
    (root / "spot_masks").mkdir()
    for path in sorted((root / "spot").iterdir()):
        pixels = np.array(Image.open(path))
        pixels[8:16, 20:30] = 255
        Image.fromarray(pixels).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
        mask = np.zeros_like(pixels)
        mask[8:16, 20:30] = 255
        Image.fromarray(mask).save(root / "spot_masks" / path.name)
    return root


def calibrated(network: dict, tmp_path: Path) -> Autoencoder:
    root, task = tmp_path / "trained-on", make(network)
    pieces(root / "train", 16), pieces(root / "val", 12, 20)
    calibrate(task, whole(root), Devices("cpu", 1))
    return task


@pytest.fixture
def linear(tmp_path: Path) -> Autoencoder:
    """A linear autoencoder with the weights that PCA has."""
    task = calibrated(LINEAR, tmp_path)
    pca = task.statistics.pca
    with torch.no_grad():
        encoder, decoder = task.network.encoder[0], task.network.decoder[0]
        encoder.weight.copy_(pca.axes), encoder.bias.copy_(-pca.axes @ pca.mean)
        decoder.weight.copy_(pca.axes.T), decoder.bias.copy_(pca.mean)
    calibrate(task, whole(tmp_path / "trained-on"), Devices("cpu", 1))
    return task


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_columns_of_pca_are_those_of_a_linear_autoencoder_that_is_pca(linear, parts, tmp_path, capsys):
    model = save_task(tmp_path / "linear.ckpt", linear)
    main(["score", str(parts), "out.csv", "--model", str(model), "--accelerator=cpu", "--devices=1"])
    rows = read("out.csv")
    assert list(rows[0]) == [
        *("path", "label", "error", "top_error", "local_error", "mahalanobis", "neighbour"),
        *(
            "pca_error",
            "pca_top_error",
            "pca_local_error",
            "pca_mahalanobis",
            "pca_neighbour",
            "abnormal",
            "trained_on",
        ),
    ]
    assert [(row["path"], row["label"]) for row in rows] == [
        *((f"good/{i:02}.png", "good") for i in range(6)),
        *((f"spot/{i:02}.jpg", "spot") for i in range(6)),  # and no mask
    ]
    for name in ("error", "top_error", "local_error", "mahalanobis", "neighbour"):
        own, reference = ([float(row[prefix + name]) for row in rows] for prefix in ("", "pca_"))
        assert own == pytest.approx(reference, rel=1e-3)
    printed = capsys.readouterr().out
    assert "pixels" in printed
    assert f"{sum(row['abnormal'] == '1' for row in rows)} of 12 image(s) are abnormal" in printed


def test_figures_are_scikit_learns_and_the_map_finds_the_square(linear, parts):
    scores = img2img.score(parts, None, linear, **CPU)
    truth = [row["label"] == "spot" for row in scores.rows]
    assert list(scores.table) == ["spot"]
    for name in scores.names:
        values = [row[name] for row in scores.rows]
        assert scores.table["spot"][name].auroc == roc_auc_score(truth, values)
        assert scores.table["spot"][name].precision == average_precision_score(truth, values)
    assert scores.table["spot"]["error"].auroc > 0.9
    pixels = scores.table["spot"]["pixels"].auroc
    assert pixels > 0.9
    assert scores.table["spot"]["pca_pixels"].auroc == pytest.approx(pixels, abs=0.01)


def test_maps_are_as_large_as_the_images_and_bright_on_the_square(linear, parts):
    odd = parts / "good" / "00.tif"  # a name that two images share
    Image.open(parts / "good" / "00.png").save(odd)
    img2img.score(parts, None, linear, maps="maps", **CPU)
    found = sorted(path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.map.png"))
    assert found[:3] == ["good/00.png.map.png", "good/00.tif.map.png", "good/01.map.png"]
    assert len(found) == 13
    values = np.array(Image.open("maps/spot/01.map.png")).astype(float) / 65535
    assert values.shape == (32, 42)
    assert values[9:15, 22:28].mean() > 3 * np.median(values)
    overlay = np.array(Image.open("maps/spot/01.overlay.png")).astype(int)
    photo = np.array(Image.open(parts / "spot" / "01.jpg")).astype(int)
    assert overlay.shape == (32, 42, 3)
    assert (overlay[12, 25, 0] - overlay[12, 25, 2]) > 50  # red to yellow
    beyond = values**2 > linear.statistics.scores["map"]["threshold"] * 1.01
    within = values**2 < linear.statistics.scores["map"]["threshold"] * 0.99
    assert beyond[12, 25]
    assert (overlay[beyond] != photo[beyond][:, None]).any(1).all()
    assert (overlay[within] == photo[within][:, None]).all()
    assert "65535 is 1" in Path("maps/README.txt").read_text()


def test_images_that_were_trained_on_are_said_and_left_out(linear, parts, tmp_path, capsys):
    for path in sorted((tmp_path / "trained-on" / "train").iterdir()):
        shutil.copy(path, parts / "good" / f"seen-{path.name}")
    model = save_task(tmp_path / "linear.ckpt", linear)
    main(["score", str(parts), "out.csv", "--model", str(model), "--accelerator=cpu", "--devices=1"])
    assert "16 of these images were trained on, and are left out" in capsys.readouterr().out
    scores = img2img.score(parts, None, linear, **CPU)
    fresh = [row for row in scores.rows if not row["trained_on"]]
    assert [row["path"] for row in fresh] == [row["path"] for row in scores.rows if "seen" not in row["path"]]
    assert scores.table["spot"]["error"].auroc == roc_auc_score(
        [row["label"] == "spot" for row in fresh], [row["error"] for row in fresh]
    )


def test_one_bad_file_is_named_and_the_rest_scored(tmp_path, parts, capsys):
    model = save_task(tmp_path / "m.ckpt", calibrated(CONVOLUTIONAL, tmp_path))
    (parts / "good" / "broken.png").write_bytes(b"no image")
    Image.new("L", (5, 5)).save(parts / "spot_masks" / "03.png")
    command = ["score", str(parts), "out.csv", "--model", str(model), "--accelerator=cpu", "--devices=1"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--maps=maps"])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert "broken.png" in captured.err
    assert "03.png has another size than its image: 5×5 instead of 42×32" in captured.err
    rows = read("out.csv")
    assert len(rows) == 12
    assert {"rapp_sap", "rapp_nap"} < set(rows[0])
    assert not {"pca_rapp_sap", "pca_rapp_nap"} & set(rows[0])
    with pytest.raises(SystemExit):
        main(command)
    assert "out.csv is there already; give --overwrite" in capsys.readouterr().err


def test_the_verdict_is_the_thresholds_and_the_quantile_moves_it(linear, parts):
    usual, strict = (img2img.score(parts, None, linear, quantile=q, **CPU) for q in (None, 0.01))
    held = linear.statistics.scores["neighbour"]
    assert usual.thresholds["neighbour"] == held["threshold"]
    assert usual.quantile == 0.95
    for scores in (usual, strict):
        for row in scores.rows:
            assert row["abnormal"] == (row["neighbour"] > scores.thresholds["neighbour"])
    assert strict.thresholds["neighbour"] == pytest.approx(np.quantile(held["normal"].double().numpy(), 0.01))
    assert sum(row["abnormal"] for row in strict.rows) > sum(row["abnormal"] for row in usual.rows)


def test_histograms_of_normal_and_abnormal_go_to_tensorboard(linear, parts):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    img2img.score(parts, None, linear, tensorboard="tb", **CPU)
    events = EventAccumulator("tb")
    events.Reload()
    assert {"neighbour/normal", "neighbour/abnormal", "pca_error/normal"} <= set(events.Tags()["histograms"])
    normal, abnormal = (events.Histograms(f"error/{kind}")[0].histogram_value for kind in ("normal", "abnormal"))
    assert (normal.num, abnormal.num) == (6, 6)
    assert normal.max < abnormal.max
    picture = events.Images("scores")[0]
    assert (picture.width, picture.height) == (960, 5 * 220)


def test_masks_in_a_folder_of_their_own(linear, parts):
    apart = parts / "masks"
    (parts / "spot_masks").rename(parts / "spare")
    apart.mkdir()
    (parts / "spare").rename(apart / "spot")
    scores = img2img.score(parts, None, linear, masks=str(apart), **CPU)
    assert len(scores.rows) == 12
    assert scores.table["spot"]["pixels"].auroc > 0.9


def test_a_map_that_cannot_be_written_is_named_and_the_rest_go_on(linear, parts, capsys):
    Path("maps/spot/01.map.png").mkdir(parents=True)
    scores = img2img.score(parts, "out.csv", linear, maps="maps", overwrite=True, **CPU)
    assert "the map of" in capsys.readouterr().err
    assert scores.unreadable == 1
    assert len(read("out.csv")) == 12
    assert len(list(Path("maps").rglob("*.overlay.png"))) == 11


def test_one_image_without_any_label(linear, parts):
    scores = img2img.score(parts / "spot" / "00.jpg", None, linear, **CPU)
    assert [(row["path"], row["label"]) for row in scores.rows] == [("00.jpg", "")]
    assert scores.table == {}


def test_what_cannot_be_meant_is_said_in_one_line(linear, parts):
    def message(**options: object) -> str:
        arguments = {"source": parts, "output": "out.csv", "model": linear} | options
        with pytest.raises(UserError) as raised:
            img2img.score(**arguments, **CPU)  # type: ignore[arg-type]
        return str(raised.value)

    assert "name it .csv" in message(output="out.npz")
    assert "lies in the input" in message(output=parts / "out.csv")
    assert "lies in the input" in message(maps=parts / "maps")
    assert "lies in the input" in message(tensorboard=parts / "board")
    assert "does not exist" in message(source="nowhere")
    assert "no folder of this name" in message(normal=["fine"])
    assert "has a mask there" in message(masks="_truth")
    assert "between 0 and 1" in message(quantile=1.5)
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    assert "--maps full is not empty" in message(maps="full")
    assert "--tensorboard full is not empty" in message(tensorboard="full")
    assert "does not know yet what is normal" in message(model=make(LINEAR))


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
def test_precision_changes_digits_alone(parts, precision, tmp_path):
    task = calibrated(CONVOLUTIONAL, tmp_path)
    expected = img2img.score(parts, None, task, **CPU)
    found = img2img.score(parts, None, task, precision=precision, **CPU)
    errors = [[row["error"] for row in scores.rows] for scores in (expected, found)]
    assert errors[1] == pytest.approx(errors[0], rel=2e-2)
    if precision == "bf16-mixed":  # thresholds were measured in full precision
        assert errors[0] == errors[1]


def test_an_image_without_finite_values_is_named_and_the_rest_go_on(linear, parts, capsys):
    pixels = np.full((32, 44), 0.5, np.float32)
    pixels[3, 4] = np.nan
    Image.fromarray(pixels).save(parts / "good" / "nan.tif")
    scores = img2img.score(parts, None, linear, maps="maps", **CPU)
    assert "nan.tif: it holds values that are infinite or NaN" in capsys.readouterr().err
    assert (len(scores.rows), scores.unreadable) == (12, 1)


def test_normal_folders_can_be_named(linear, parts):
    scores = img2img.score(parts, None, linear, normal=["spot"], **CPU)
    assert list(scores.table) == ["good"]
    assert scores.table["good"]["error"].auroc < 0.2


def test_a_model_with_a_bound_is_compared_with_probabilistic_pca(linear, parts, tmp_path, monkeypatch):
    pca = linear.statistics.pca
    monkeypatch.setattr(Autoencoder, "elbo_of", lambda self, batch: -pca.nats(batch["image"]) / 2)
    calibrate(linear, whole(tmp_path / "trained-on"), Devices("cpu", 1))
    scores = img2img.score(parts, None, linear, **CPU)
    assert {"neg_elbo", "pca_neg_elbo"} < set(scores.names)
    for row in scores.rows:
        assert row["neg_elbo"] == pytest.approx(row["pca_neg_elbo"] / 2)
    assert scores.table["spot"]["neg_elbo"] == scores.table["spot"]["pca_neg_elbo"]


@pytest.mark.slow
def test_two_processes_score_what_one_does(parts, tmp_path):
    model = save_task(tmp_path / "m.ckpt", calibrated(CONVOLUTIONAL, tmp_path))
    (parts / "good" / "05.png").unlink()  # an odd number
    printed = run(
        "-m", "img2img", "score", str(parts), "two.csv", "--model", str(model), "--accelerator=cpu", "--devices=2"
    )
    scores = img2img.score(parts, "one.csv", model, **CPU)
    assert Path("one.csv").read_text() == Path("two.csv").read_text()
    assert len(scores.rows) == 11
    assert f"pixels           {scores.table['spot']['pixels'].auroc:.3f}" in printed
