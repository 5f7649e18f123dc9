"""PCA beside every autoencoder: fitted to the training images before the first step."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.data import WholeImages
from img2img.tasks import Autoencoder
from img2img.tasks.autoencoding import Statistics
from img2img.tasks.pca import fit_principal


class PCABaseline(Callback):
    """Fits principal components, as many as the model has latents, to the clean training images.

    The first process computes them in closed form, and the others get its result. The network may begin there, unless
    it begins with given weights. A run that goes on has the components in its checkpoint; it forgets what else was
    measured, for its weights change now.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits the components, unless a checkpoint brought them."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, Autoencoder) or not isinstance(data, WholeImages):
            return
        fit = pl_module.statistics.pca
        begins = fit is None and not pl_module.fine_tuned
        if fit is None and trainer.is_global_zero:
            fit = fit_principal(data.targets("train"), pl_module.network.latent_dim)
        pca = trainer.strategy.broadcast(fit)
        pl_module.statistics = Statistics(pca=pca)
        if begins and pca is not None:
            pl_module.begin_at(pca.to(pl_module.device))
