from io import BytesIO

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from img2img.callbacks import AveragedWeights, FinalValidation, LatentPictures, PCABaseline
from img2img.callbacks.latents import draw_axes, draw_interpolation, draw_samples, draw_traversal
from img2img.data import WholeImages
from img2img.imaging.drawing import GAP, LINE, draw_sheet
from img2img.latents.sampling import sample
from img2img.networks import ConvAutoencoder, LinearAutoencoder
from img2img.tasks import Autoencoder, VariationalAutoencoder
from img2img.tasks.pca import PrincipalComponents, fit_principal
from img2img.trainer import Trainer


@pytest.fixture
def faces(photo, tmp_path):
    """Pieces of a photograph, 16×16: 9 to train with, 6 to validate with."""
    for split, row, count in (("train", 0, 9), ("val", 150, 6)):
        (tmp_path / "faces" / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(photo[row:, 30 * i :][:16, :16]).save(tmp_path / "faces" / split / f"{i}.png")
    return WholeImages(image_size=[16, 16], root=str(tmp_path / "faces"), channels=1, batch_size=3, seed=0)


def fit(task, data, steps=4) -> EventAccumulator:
    trainer = Trainer(
        accelerator="cpu",
        precision="32-true",
        max_steps=steps,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=1,
        callbacks=[AveragedWeights(), PCABaseline(), LatentPictures(), FinalValidation()],
        logger=TensorBoardLogger("logs", name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    return EventAccumulator("logs").Reload()


def picture(events: EventAccumulator, tag: str) -> np.ndarray:
    return np.array(Image.open(BytesIO(events.Images(tag)[-1].encoded_image_string)))


def bars(rows: int = 2) -> Autoencoder:
    """A linear autoencoder whose latent d is the brightness of row d, and 0 of all below is gray."""
    task = Autoencoder(LinearAutoencoder([4, 4], latent_dim=rows))
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.zero_()
        task.network.decoder[0].bias.fill_(0.5)
        for d in range(rows):
            task.network.decoder[0].weight.view(4, 4, rows)[d, :, d] = 1
    return task


def cells(sheet: np.ndarray, columns: int, line: int = LINE) -> np.ndarray:
    """The images of a sheet of 4×4 ones, enlarged to 96×96, rows×columns×4×4."""
    rows = (sheet.shape[0] - GAP) // (96 + GAP + line)
    tops, lefts = (GAP + np.arange(n) * (96 + GAP + more) for n, more in ((rows, line), (columns, 0)))
    found = [[sheet[top : top + 96, left : left + 96, 0][12::24, 12::24] for left in lefts] for top in tops]
    return np.array(found)


def test_a_variational_run_shows_samples_interpolation_traversal_and_divergences(faces):
    torch.manual_seed(0)
    task = VariationalAutoencoder(ConvAutoencoder([16, 16], channels=[8, 8], latent_dim=4, per_latent=2))
    before = draw_samples(task)
    events = fit(task, faces)
    tags = events.Tags()
    assert set(tags["images"]) == {"latents/samples", "latents/interpolation", "latents/traversal"}
    assert [event.step for event in events.Images("latents/samples")] == [2, 4]
    last = picture(events, "latents/samples")
    np.testing.assert_array_equal(last, draw_samples(task), "drawn with the averaged weights, which fit leaves behind")
    assert (last != before).any()
    assert tags["histograms"] == ["latents/kl"]
    assert events.Histograms("latents/kl")[-1].histogram_value.num == 4
    assert events.Histograms("latents/kl")[-1].histogram_value.sum == pytest.approx(
        events.Scalars("val/kl")[-1].value, rel=1e-4
    )


def test_a_linear_run_ends_with_its_axes(faces):
    torch.manual_seed(0)
    task = Autoencoder(LinearAutoencoder([16, 16], latent_dim=2), lr=1e-2, warmup_steps=0)
    events = fit(task, faces)
    assert set(events.Tags()["images"]) == {"latents/axes", "latents/interpolation", "latents/traversal"}
    assert [event.step for event in events.Images("latents/axes")] == [4]
    assert picture(events, "latents/axes").shape == (96 + 2 * GAP + LINE, 2 * (96 + GAP) + GAP, 3)


def test_other_loggers_draw_nothing(faces, monkeypatch):
    monkeypatch.setattr(LatentPictures, "_show", lambda *args: pytest.fail("drawn for nobody"))
    task = VariationalAutoencoder(ConvAutoencoder([16, 16], channels=[8], latent_dim=4, per_latent=2))
    trainer = Trainer(
        accelerator="cpu",
        precision="32-true",
        max_steps=1,
        callbacks=[LatentPictures(), FinalValidation()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=faces)
    assert task.kl_per_dimension is not None, "it was validated"


def test_samples_are_the_first_that_the_command_draws():
    torch.manual_seed(0)
    task = VariationalAutoencoder(ConvAutoencoder([16, 16], channels=[8], latent_dim=4, per_latent=2)).eval()
    drawn = sample(None, task, n=32, accelerator="cpu").images
    np.testing.assert_array_equal(draw_samples(task), draw_sheet(drawn, 8))


def test_an_interpolation_goes_straight_from_one_image_to_the_other():
    drawn = cells(draw_interpolation(bars(), torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.0])), 8)[0]
    np.testing.assert_array_equal(drawn[:, 0, 0], np.round(np.linspace(0, 255, 8)))
    assert np.ptp(drawn[:, 1:]) == 0


def test_a_traversal_moves_each_latent_by_its_own_deviation_that_of_most_effect_first():
    codes = torch.tensor([[0.1, 0.0], [0.1, 0.2], [0.1, -0.2], [0.2, 0.0]])
    drawn = cells(draw_traversal(bars(), codes), 7) / 255
    assert drawn.shape[:2] == (2, 7)
    expected = 0.5 + codes[:, 1].mean() + codes[:, 1].std() * torch.linspace(-2, 2, 7)
    np.testing.assert_allclose(drawn[0, :, 1, 0], expected, atol=0.003)  # latent 1 first
    np.testing.assert_allclose(drawn[0, :, 0, 0], 0.6, atol=0.003)  # the other as in the first image
    np.testing.assert_allclose(drawn[1, 3, 0, 0], 0.5 + codes[:, 0].mean(), atol=0.003)
    np.testing.assert_allclose(drawn[1, :, 1, 0], 0.5, atol=0.003)
    task = bars()
    with torch.no_grad():
        task.network.decoder[0].weight *= torch.tensor([1.0, 0.01])  # latent 1 varies more and changes less
    drawn = cells(draw_traversal(task, codes), 7) / 255
    assert np.ptp(drawn[0, :, 0, 0]) > 0.15
    assert np.ptp(drawn[0, :, 1, 0]) == 0


def test_axes_are_drawn_about_gray_on_one_scale():
    rows = np.linspace(-1, 1, 40)[:, None, None, None] * np.array([3.0, 0, -3.0, 0]).reshape(1, 1, 4, 1)
    images = (rows + 0.1 * np.sin(np.arange(640)).reshape(40, 1, 4, 4)).astype(np.float32)
    fit = fit_principal([images], 1)
    (drawn,) = cells(draw_axes(fit, (1, 4, 4)), 1)[0] / 255
    # Of 16 values 8 are ±1/√8: √16 times that, over the range of 2 · 3 units.
    np.testing.assert_allclose(np.abs(drawn[[0, 2]] - 0.5), (2**0.5) / 6, atol=0.02)
    np.testing.assert_allclose(drawn[[1, 3]], 0.5, atol=0.02)
    flipped = PrincipalComponents(fit.mean, -fit.axes, fit.variances, fit.residual)
    np.testing.assert_allclose(cells(draw_axes(flipped, (1, 4, 4)), 1)[0][0] / 255, 1 - drawn, atol=0.005)


def test_a_sheet_holds_its_images_in_rows_and_writes_captions(photo):
    image = torch.from_numpy(photo[:100, :120]).permute(2, 0, 1) / 255
    sheet = draw_sheet(torch.stack([image] * 3), 2, ["one", "", "three"])
    assert sheet.shape == (2 * (100 + GAP + LINE) + GAP, 2 * (120 + GAP) + GAP, 3)
    for top, left in ((0, 0), (0, 124), (118, 0)):
        np.testing.assert_array_equal(sheet[GAP + top : 104 + top, GAP + left : 124 + left], photo[:100, :120])
        line = sheet[104 + top : 118 + top, GAP + left : 124 + left]
        assert (line < 128).any() == ((top, left) != (0, 124))
    assert (sheet[122:, 128:] == 250).all(), "the last place is empty"
    assert draw_sheet(image[None, :1, :10, :20], 4).shape == (100 + 2 * GAP, 200 + 2 * GAP, 3)
    with pytest.raises(ValueError, match="2 images need as many captions, not 1"):
        draw_sheet(torch.stack([image] * 2), 2, ["one"])
