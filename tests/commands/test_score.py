import csv
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import img2img
from img2img.cli import main
from tests.anomaly.calibrated import (
    CONVOLUTIONAL,
    calibrated,
    calibrated_pca,
    shared_place,
    spotted_parts,
    training_images,
)
from tests.commands.models import save_task
from tests.commands.test_distributed import run

ON_CPU = ["--accelerator=cpu", "--devices=1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with linear.ckpt and convolutional.ckpt, and trained-on/, the images that they know."""
    with shared_place(tmp_path_factory) as folder:
        root = training_images(folder / "trained-on")
        save_task(folder / "linear.ckpt", calibrated_pca(root))
        save_task(folder / "convolutional.ckpt", calibrated(CONVOLUTIONAL, root))
    return folder


@pytest.fixture
def parts(tmp_path) -> Path:
    return spotted_parts(tmp_path / "parts")


def read(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_advice_comes_first_and_the_table_can_be_whole(models, parts, capsys):
    command = ["score", str(parts), "out.csv", "--model", str(models / "linear.ckpt"), *ON_CPU]
    main(command)
    rows = read("out.csv")
    printed = capsys.readouterr().out
    begin = f"{sum(row['abnormal'] == '1' for row in rows)} of 12 image(s) are abnormal: neighbour above"
    lines = printed[printed.index(begin) :].splitlines()  # without the progress bar
    assert lines[0].endswith("% of 12 held-out normal image(s) do not exceed; out.csv")
    alarms = sum(row["abnormal"] == "1" for row in rows if row["label"] == "good")
    misses = sum(row["abnormal"] == "0" for row in rows if row["label"] == "spot")
    assert lines[1] == f"false alarms: {alarms} of 6 normal image(s); misses: {misses} of 6 abnormal image(s)"
    start = lines.index("most abnormal, by neighbour:") + 1
    listed = [line.split()[1] for line in lines[start : start + 10]]
    ranked = sorted(rows, key=lambda row: -float(row["neighbour"]))
    assert listed == [row["path"] for row in ranked[:10]]
    table = lines[start + 11 :]
    heads = ["AUROC", "PCA's", "AP", "PCA's", "AUPRO", "PCA's", "F1", "PCA's", "precision", "recall"]
    assert table[0].split() == heads
    assert [line.split()[:2] for line in table[1:3]] == [["spot", "neighbour"], ["pixels", table[2].split()[1]]]
    assert [len(line.split()) for line in table[1:3]] == [10, 11], "AUPRO is of maps"
    assert "mahalanobis" not in printed

    main([*command, "--overwrite", "--all-scores"])
    table = capsys.readouterr().out.split("recall\n")[1].splitlines()
    names = [re.findall(r"[a-z_]+", line)[-1] for line in table]
    assert names == ["neighbour", "error", "top_error", "local_error", "mahalanobis", "pixels"]


def test_the_report_is_written_and_named(models, parts, capsys):
    command = ["score", str(parts), "out.csv", "--model", str(models / "convolutional.ckpt"), "--html=r.html", *ON_CPU]
    main(command)
    assert capsys.readouterr().out.rstrip().endswith("report: r.html")
    assert Path("r.html").read_text("utf-8").count('<article class="card"') == 12
    Path("out.csv").unlink()
    with pytest.raises(SystemExit):
        main(command)
    assert "r.html is there already; give --overwrite" in capsys.readouterr().err
    assert not Path("out.csv").exists(), "refused before anything is written"


def test_images_that_were_trained_on_are_said_to_be(models, parts, capsys):
    for path in sorted((models / "trained-on" / "train").iterdir()):
        shutil.copy(path, parts / "good" / f"seen-{path.name}")
    main(["score", str(parts), "out.csv", "--model", str(models / "linear.ckpt"), *ON_CPU])
    printed = capsys.readouterr().out
    assert "16 of these images were trained on, and are left out" in printed
    assert "of 6 normal image(s)" in printed
    assert "near-duplicates" not in printed


def test_near_duplicates_are_named(models, parts, capsys):
    image = Image.open(models / "trained-on" / "train" / "03.png")
    image.point(lambda value: 0.8 * value).crop((1, 1, *image.size)).save(parts / "good" / "again.png")
    main(["score", str(parts), "out.csv", "--model", str(models / "linear.ckpt"), *ON_CPU])
    said = "1 of these images are near-duplicates of training images, and say little about new parts: good/again.png"
    assert said in capsys.readouterr().out


def test_a_folder_without_labels_is_scored_without_figures(models, parts, capsys):
    main(["score", str(parts / "spot"), "out.csv", "--model", str(models / "linear.ckpt"), *ON_CPU])
    printed = capsys.readouterr().out
    assert "of 6 image(s) are abnormal" in printed
    assert "false alarms" not in printed
    assert "AUROC" not in printed


def test_one_bad_file_is_named_and_the_rest_scored(models, parts, capsys):
    (parts / "good" / "broken.png").write_bytes(b"no image")
    Image.new("L", (5, 5)).save(parts / "spot_masks" / "03.png")
    command = ["score", str(parts), "out.csv", "--model", str(models / "convolutional.ckpt"), *ON_CPU]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--maps=maps"])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert "skipped: " in captured.err
    assert "broken.png" in captured.err
    assert "03.png has another size than its image: 5×5 instead of 42×32" in captured.err
    rows = read("out.csv")
    assert len(rows) == 12
    assert {"rapp_sap", "rapp_nap"} < set(rows[0])
    assert not {"pca_rapp_sap", "pca_rapp_nap"} & set(rows[0])
    with pytest.raises(SystemExit):
        main(command)
    assert "out.csv is there already; give --overwrite" in capsys.readouterr().err


def test_options_are_those_of_the_function(models, parts, capsys):
    command = ["score", str(parts), "out.csv", "--model", str(models / "linear.ckpt"), *ON_CPU]
    main([*command, "--normal", "spot", "--normal=good", "--quantile", "0.5", "--batch_size=3", "--tensorboard=tb"])
    assert "which 50 % of 12 held-out normal image(s) do not exceed" in capsys.readouterr().out
    assert list(Path("tb").iterdir())
    expected = img2img.score(parts, None, models / "linear.ckpt", quantile=0.5, accelerator="cpu", devices=1)
    found = [float(row["neighbour"]) for row in read("out.csv")]
    assert found == pytest.approx([row["neighbour"] for row in expected.rows], rel=1e-3)
    with pytest.raises(SystemExit) as ended:
        main([*command, "--overwrite", "--batch-size=0"])
    assert ended.value.code == 2
    assert "--batch_size and --num_nodes must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_score_what_one_does(models, parts):
    model = models / "convolutional.ckpt"
    (parts / "good" / "05.png").unlink()  # an odd number
    printed = run(
        "-m", "img2img", "score", str(parts), "two.csv", "--model", str(model), "--accelerator=cpu", "--devices=2"
    )
    scores = img2img.score(parts, "one.csv", model, accelerator="cpu", devices=1)
    assert Path("one.csv").read_text() == Path("two.csv").read_text()
    assert len(scores.rows) == 11
    assert re.search(rf"pixels +{scores.table['spot']['pixels'].auroc:.3f}", printed)
