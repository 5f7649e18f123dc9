"""`img2img evaluate-latents`: whether latents tell the labels apart, beside PCA's coordinates of equal size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from img2img.errors import printable
from img2img.imaging.parts import appearing
from img2img.inference.checks import check_output_file
from img2img.latents.evaluation import FOLDS, NEIGHBOURS, Evaluation, evaluate_latents
from img2img.signature_parser import parser_of

ROWS = {
    "kmeans_accuracy": "k-means accuracy",
    "nmi": "normalised mutual information (NMI)",
    "ari": "adjusted Rand index (ARI)",
    "knn_accuracy": f"accuracy of {NEIGHBOURS} nearest neighbours",
    "pearson": "distance to own centre and error, Pearson",
    "spearman": "distance to own centre and error, Spearman",
}
METHOD = (
    "Distances are Euclidean on the numbers as they are, not standardised. k-means has as many clusters as there are",
    "labels, matched to these by the Hungarian method; its accuracy, NMI and ARI come from the best of 10 starts,",
    f"seed 0. Neighbours vote in {FOLDS}-fold stratified cross-validation. Own centre is the mean of an image's label.",
)


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints the table."""
    parser = parser_of(evaluate_latents, command)
    parser.add_argument("--json", metavar="OUT", help="Also write the figures there.")
    parser.add_argument("--overwrite", action="store_true", help="Replace the JSON if it is there.")
    options = parser.parse_args(arguments)
    output = None if options.json is None else Path(options.json)
    if output is not None:
        check_output_file(output, Path(options.input), options.overwrite)
    figures = evaluate_latents(options.input)
    print(describe(Path(options.input).name, figures))
    if output is not None:
        with appearing(output) as part:
            part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def describe(name: str, figures: Evaluation) -> str:
    """Returns the figures as an aligned table, and how they were measured."""
    measured: dict[str, Any] = {f"{figures['latents']['numbers']} latents": figures["latents"]}
    if figures["pca"] is not None:
        measured[f"{figures['pca']['numbers']} of PCA"] = figures["pca"]
    wide = max(map(len, ROWS.values()))
    lines = [
        f"{printable(name)}: {figures['images']} images, {figures['labels']} labels, the largest with "
        f"{figures['largest_label']:.1%} of the images",
        "",
        " " * wide + "".join(f"{head:>14}" for head in measured),
    ]
    for key, text in ROWS.items():
        values = (quality[key] for quality in measured.values())
        lines.append(f"{text:<{wide}}" + "".join(f"{'–' if v is None else f'{v:.4f}':>14}" for v in values))
    no_pca = ["The model knew no principal components: there is nothing to compare with."] if len(measured) == 1 else []
    return "\n".join([*lines, "", *METHOD, *no_pca])
