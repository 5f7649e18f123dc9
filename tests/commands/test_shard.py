"""`img2img shard`, and training on what it wrote."""

from pathlib import Path

import pytest
import torch

from img2img.cli import main
from tests.data.s3_server import s3_server


def test_training_on_shards_is_bit_identical(program, photos, capsys):
    pytest.importorskip("s3fs")
    main(["shard", str(photos), "shards"])
    assert "10 image(s) in 1 shard(s)" in capsys.readouterr().out
    steps = "--trainer.max_steps=4"
    program("fit", steps)
    program("fit", steps, "--data.root=shards", "--data.num_workers=2")
    with s3_server() as bucket:
        main(["shard", str(photos), f"{bucket}/set"])
        program("fit", steps, f"--data.root={bucket}/set")
        program("fit", steps, f"--data.root={bucket}/set", "--data.cache_gb=0", "--data.num_workers=2")
    saved = [torch.load(f"runs/denoise/{n}/last.ckpt", weights_only=True)["state_dict"] for n in range(4)]
    for weights in saved[1:]:
        assert weights.keys() == saved[0].keys()
        assert all(torch.equal(weights[name], saved[0][name]) for name in weights)


def test_files_that_were_left_out_are_named_with_exit_code_1(photos, capsys):
    (photos / "train" / "bad.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        main(["shard", str(photos), "shards"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "bad.png" in said.err
    assert "10 image(s)" in said.out
    assert Path("shards/img2img_shards.json").exists()
