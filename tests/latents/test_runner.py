from pathlib import Path

import pytest
import torch

import img2img
from img2img.data.labelled_images import LabelledImages
from img2img.errors import UserError
from img2img.latents.runner import Devices, open_autoencoder, run_over, split_problems
from img2img.signature_parser import parser_of
from tests.commands.models import RECIPE
from tests.latents.autoencoders import by_hand, picture, save

CPU = Devices("cpu", 1)


@pytest.fixture
def folder() -> Path:
    """Three images, of which the second cannot be read."""
    for i, name in enumerate(("a.png", "kind/b.png", "kind/c.png")):
        picture(Path("in") / name, [0.1 * i, 0.0, 0.0])
    Path("in/kind/b.png").write_text("no image")
    return Path("in")


@pytest.mark.parametrize("number", ["batch_size", "num_nodes"])
def test_numbers_below_one_are_refused(number):
    with pytest.raises(UserError, match="--batch_size and --num_nodes must be at least 1"):
        Devices(**{number: 0})


def test_the_options_of_devices_are_described_and_may_have_hyphens():
    def command(input: str, **devices: int) -> None:
        """Does nothing.

        Args:
            input: Folder.
        """

    parser = parser_of(command, "nothing", shared=[Devices])
    options = vars(parser.parse_args(["in", "--batch-size", "3", "--devices=2"]))
    assert Devices(**{name: value for name, value in options.items() if name != "input"}) == Devices(
        devices=2, batch_size=3
    )
    assert "How many machines share the images (default: 1)." in parser.format_help()


def test_rows_come_in_the_order_of_the_images_whatever_the_batches(folder):
    data = LabelledImages(folder, (8, 8), 1, batch_size=2)
    rows = run_over(by_hand(), data, lambda task, batch: {"latent": task.encode(batch["image"])}, CPU)
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.png", "c.png"]
    assert [row["label"] for row in rows] == ["", "kind", "kind"]
    assert [bool(row["problem"]) for row in rows] == [False, True, False]
    assert rows[2]["latent"][0] == pytest.approx(0.2, abs=0.01)
    good, problems = split_problems(rows)
    assert [row["n"] for row in good] == [0, 2]
    assert [problem.startswith("cannot read in/kind/b.png") for problem in problems] == [True]


def test_any_task_can_be_run_over_images(folder):
    data = LabelledImages(folder, (8, 8), 3)
    rows = run_over(img2img.build(RECIPE), data, lambda task, batch: {"output": task(batch["image"])}, CPU)
    assert [row["output"].shape for row in rows] == [(3, 8, 8)] * 3


def test_images_none_of_which_can_be_read_are_an_error_with_a_reason():
    with pytest.raises(UserError, match=r"none of the 2 image file\(s\) can be read; the first: in/a\\n\.png is torn"):
        split_problems([{"problem": "in/a\n.png is torn"}, {"problem": "another"}])


def test_a_given_model_is_copied_and_stays_as_it_is():
    task = by_hand().train()
    copy = open_autoencoder(task)
    assert copy is not task
    assert task.training
    assert not copy.training
    with torch.no_grad():
        copy.network.decoder[0].bias.zero_()
    assert task.network.decoder[0].bias.eq(0.5).all()
    assert copy.statistics.latents.mean.equal(task.statistics.latents.mean)


def test_a_checkpoint_is_opened_for_evaluation(tmp_path):
    task = open_autoencoder(save(tmp_path / "m.ckpt"))
    assert not task.training
    assert task.statistics.latents is not None


def test_other_models_are_refused():
    with pytest.raises(UserError, match=r"the model \(Restoration\) is not an autoencoder"):
        open_autoencoder(img2img.build(RECIPE))
