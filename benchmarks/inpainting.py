"""How well models and OpenCV fill holes: PSNR in the hole, and speed, on a folder of photographs.

Holes are drawn with a fixed seed per image: 80 % of the pixels, thin and thick strokes, as in the
evaluation of `inpaint.yaml`. Outputs are rounded to 8 bits.

    python -m benchmarks.inpainting kodak24 [--models inpaint run.ckpt lama.pt] [--images 24]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from benchmarks import measuring, rivals
from benchmarks.measuring import Row
from img2img.corruptions import RandomPixels, Strokes
from img2img.tasks.metrics import HolePSNR

HOLES = {
    "80 % of the pixels": RandomPixels(share=0.8),
    "thin strokes": Strokes(width=(3, 8)),
    "thick strokes": Strokes(width=(20, 50)),
}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", default=["inpaint"])
    parser.add_argument("--images", type=int, help="how many, evenly spread (default: all)")
    options = parser.parse_args()
    methods = {
        "untreated": lambda batch: batch["input"],
        "Telea (OpenCV)": rivals.opencv_inpainting(cv2.INPAINT_TELEA),
        "Navier-Stokes (OpenCV)": rivals.opencv_inpainting(cv2.INPAINT_NS),
    } | {name: measuring.model(name) for name in options.models}
    rows: dict[str, dict[str, list[Row]]] = {name: {hole: [] for hole in HOLES} for name in methods}
    count = 0
    for name, image in measuring.images(options.folder, most=options.images):
        count += 1
        for hole, corruption in HOLES.items():
            batch = measuring.batch_of(name, image, [corruption])
            for label, method in methods.items():
                rows[label][hole].append(measuring.measure(method, batch, [HolePSNR()]))
    print(f"\n| PSNR in the hole, dB | {' | '.join(HOLES)} | MP/s |\n|---|{'---|' * (len(HOLES) + 1)}")
    for label, by_hole in rows.items():
        means = [measuring.mean(found) for found in by_hole.values()]
        speed = "" if label == "untreated" else f"{means[0]['MP/s']:.3g}"
        print(f"| {label} | {' | '.join(format(row['psnr_hole'], '.2f') for row in means)} | {speed} |")
    print(f"\n{options.folder.name}, {count} whole images, {measuring.machine()}")


if __name__ == "__main__":
    main()
