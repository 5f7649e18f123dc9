import json
import time
import urllib.request
from pathlib import Path

import pytest

from img2img.commands.watch import serve
from img2img.errors import UserError


def test_every_image_step_is_kept(tmp_path):
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "denoise" / "0")) as writer:
        for step in range(30):
            writer.add_image("reconstructions", np.full((4, 4, 3), step, np.uint8), step, dataformats="HWC")
    address = serve(Path(tmp_path))
    query = f"{address}data/plugin/images/images?run=denoise%2F0&tag=reconstructions&sample=0"
    steps: list[int] = []
    for _ in range(60):  # TensorBoard loads in the background
        with urllib.request.urlopen(query, timeout=30) as reply:
            steps = [image["step"] for image in json.load(reply)]
        if len(steps) == 30:
            break
        time.sleep(0.5)
    assert steps == list(range(30))  # TensorBoard's own default keeps ten
    with pytest.raises(UserError, match="could not start"):
        serve(Path(tmp_path), port=int(address.rstrip("/").rpartition(":")[2]))
