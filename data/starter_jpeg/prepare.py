"""Rebuild the set: the starter photographs as JPEG of low quality, whose artefacts configs/pairs.yaml removes.

Needs Pillow. The same version of Pillow writes the same bytes.
"""

from pathlib import Path

from PIL import Image

QUALITY = 10
HERE = Path(__file__).parent


def main(starter: Path = HERE.parent / "starter", out: Path = HERE) -> None:
    """Write train/, val/ and test/ with a .jpg for each .png of the starter set."""
    for source in sorted(starter.glob("*/*.png")):
        target = out / source.parent.name / f"{source.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            image.save(target, quality=QUALITY, subsampling="4:2:0")


if __name__ == "__main__":
    main()
