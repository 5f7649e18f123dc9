import json
from pathlib import Path

import pytest

from img2img.cli import main
from tests.latents.test_evaluation import table


def test_the_command_prints_a_table_and_writes_json(capsys):
    table().save(Path("t.npz"))
    main(["evaluate-latents", "t.npz", "--json", "figures.json"])
    said = capsys.readouterr().out
    assert "t.npz: 60 images, 3 labels, the largest with 33.3% of the images" in said
    figures = json.loads(Path("figures.json").read_text())
    row = next(line for line in said.splitlines() if line.startswith("k-means accuracy"))
    values = [figures[kind]["kmeans_accuracy"] for kind in ("latents", "pca")]
    assert row.split()[2:] == [f"{value:.4f}" for value in values]
    lines = [line for line in said.splitlines() if line.endswith(row[-6:]) or " of PCA" in line]
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    assert "not standardised" in said
    with pytest.raises(SystemExit):
        main(["evaluate-latents", "t.npz", "--json", "figures.json"])
    assert "figures.json is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate-latents", "t.npz", "--json", "t.npz", "--overwrite"])
    assert "is the input itself" in capsys.readouterr().err


def test_without_components_there_is_one_column(capsys):
    table(pca=None, pca_error=None).save(Path("t.csv"))
    main(["evaluate-latents", "t.csv"])
    assert "knew no principal components" in capsys.readouterr().out
