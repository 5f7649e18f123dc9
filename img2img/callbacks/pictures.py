"""Pictures in whatever logger a run has: TensorBoard, W&B, MLflow, or PNG files beside the table of CSVLogger."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image

from img2img.imaging.parts import appearing


def log_picture(trainer: Trainer, tag: str, picture: NDArray[np.uint8]) -> bytes:
    """Gives a picture of the current step to each of the run's loggers; call it on rank zero only.

    CSVLogger keeps no pictures, so they lie beside its `metrics.csv` as `pictures/TAG/STEP.png`. A logger of a kind
    that is not known here gets one if it has a `log_image` like W&B's.

    Args:
        trainer: The trainer.
        tag: The picture's name, such as `latents/samples`.
        picture: H×W×3.

    Returns:
        The picture as PNG. It is encoded once for all; the default level takes twice as long for a few percent.
    """
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", compress_level=1)
    png, step = encoded.getvalue(), trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _to_tensorboard(logger, tag, picture.shape, png, step)
        elif isinstance(logger, CSVLogger):
            with appearing(Path(logger.log_dir) / "pictures" / tag / f"{step:07}.png") as part:
                part.write_bytes(png)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=tag, step=step)
        elif hasattr(logger, "log_image"):
            logger.log_image(tag, [picture], step=step)
    return png


def _to_tensorboard(logger: TensorBoardLogger, tag: str, shape: tuple[int, ...], png: bytes, step: int) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(height=shape[0], width=shape[1], colorspace=3, encoded_image_string=png)
    board: Any = logger.experiment
    board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
