"""Prepare DIV2K, 800 + 100 photographs of about 2 megapixels or more, for denoising.

DIV2K_train_HR becomes train/. DIV2K_valid_HR (0801.png to 0900.png) is split: 0801 to 0850 become val/, 0851 to
0900 test/, so that a model is not judged on the pictures that it was chosen by.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from download import (
    PrepareError,
    find_images,
    image_size,
    open_source,
    require_new,
    run,
    write_layout,
)

SERVER = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
# The checksums are those of TensorFlow Datasets.
TRAIN_SHA256 = "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"
VALID_SHA256 = "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"
VAL_COUNT = 50
LONG_SIDE = 2040


def images_of(folder: Path, numbers: range) -> list[Path]:
    """Find and check the photographs of one archive.

    Args:
        folder: The unpacked archive.
        numbers: Numbers the photographs must have.

    Returns:
        The photographs in order.
    """
    first = next(iter(sorted(folder.rglob(f"{numbers[0]:04d}.png"))), None)
    if first is None:
        raise PrepareError(f"{folder.name} has no {numbers[0]:04d}.png")
    found = find_images(first.parent, ".png", len(numbers), first.parent.name)
    for number, image in zip(numbers, found, strict=True):
        if image.name != f"{number:04d}.png":
            raise PrepareError(f"expected {number:04d}.png, found {image.name}")
        if max(image_size(image)) != LONG_SIDE:
            raise PrepareError(f"{image.name} is {image_size(image)}, expected a long side of {LONG_SIDE}")
    return found


def main() -> None:
    """Read the command line and prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder for train/ val/ test/")
    parser.add_argument("--archive", type=Path, help="DIV2K_train_HR.zip, or its unpacked folder, on disk")
    parser.add_argument("--valid-archive", type=Path, help="likewise for DIV2K_valid_HR.zip")
    parser.add_argument("--url", default=SERVER + "DIV2K_train_HR.zip", help="default: %(default)s")
    parser.add_argument("--valid-url", default=SERVER + "DIV2K_valid_HR.zip", help="default: %(default)s")
    parser.add_argument("--sha256", default=TRAIN_SHA256, help="train checksum instead of the known one")
    parser.add_argument("--valid-sha256", default=VALID_SHA256, help="likewise for the valid archive")
    parser.add_argument("--unverified", action="store_true", help="accept any checksum, and print it")
    args = parser.parse_args()
    sha256, valid_sha256 = (None, None) if args.unverified else (args.sha256, args.valid_sha256)
    require_new(args.out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as work:  # 4 GB may be too much for /tmp
        scratch = Path(work)
        valid = open_source(args.valid_archive, args.valid_url, valid_sha256, scratch)
        held_out = images_of(valid, range(801, 901))
        train = images_of(open_source(args.archive, args.url, sha256, scratch), range(1, 801))
        splits = {"train": train, "val": held_out[:VAL_COUNT], "test": held_out[VAL_COUNT:]}
        write_layout(args.out, splits)


if __name__ == "__main__":
    run(main)
