"""Prepare BSDS500, the 500 photographs of the Berkeley segmentation data set, for denoising.

CBSD68, the usual test set of denoising papers, consists of 68 of the 100 photographs in BSDS500's own `val`
folder. So `val` is not for training: it becomes test/. BSDS500's `train` and `test` together are the
400 photographs left to train with; every 20th of them by name (20 in all) becomes val/.
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

URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
SHA256 = "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e"  # as public projects pin it
COUNTS = {"train": 200, "val": 100, "test": 200}
SIZES = {(481, 321), (321, 481)}
VAL_EVERY = 20


def images_of(folder: Path) -> dict[str, list[Path]]:
    """Find and check the photographs of BSDS500's own three folders.

    Args:
        folder: The unpacked archive, or any folder with images/train, images/val and images/test in it.

    Returns:
        Photographs by the name of their folder.
    """
    roots = [p.parent for p in [folder / "train", *sorted(folder.rglob("images/train"))] if p.is_dir()]
    if not roots:
        raise PrepareError(f"{folder} has no folder images/train")
    found = {}
    for name, count in COUNTS.items():
        found[name] = find_images(roots[0] / name, ".jpg", count, f"BSDS500 {name}")
        for image in found[name]:
            if image_size(image) not in SIZES:
                raise PrepareError(f"{image.name} is {image_size(image)}, expected 481x321 or 321x481")
    return found


def main() -> None:
    """Read the command line and prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder for train/ val/ test/")
    parser.add_argument("--archive", type=Path, help="BSR_bsds500.tgz, or its unpacked folder, on disk")
    parser.add_argument("--url", default=URL, help="address of the archive (default: %(default)s)")
    parser.add_argument("--sha256", default=SHA256, help="checksum to expect instead of the known one")
    parser.add_argument("--unverified", action="store_true", help="accept any checksum, and print it")
    args = parser.parse_args()
    sha256 = None if args.unverified else args.sha256
    require_new(args.out)
    with tempfile.TemporaryDirectory() as work:
        found = images_of(open_source(args.archive, args.url, sha256, Path(work)))
        rest = sorted(found["train"] + found["test"], key=lambda path: path.name)
        val = rest[VAL_EVERY - 1 :: VAL_EVERY]
        train = [path for path in rest if path not in val]
        write_layout(args.out, {"train": train, "val": val, "test": found["val"]})


if __name__ == "__main__":
    run(main)
