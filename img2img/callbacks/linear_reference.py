"""PCA beside every autoencoder: fitted to the training images before the first step."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.data import WholeImages
from img2img.tasks import Autoencoder
from img2img.tasks.principal import fit_principal


class LinearReference(Callback):
    """Fits principal components, as many as the model has latents, to the clean training images.

    In closed form, on the first process; the others get its result. A run that goes on has them in its checkpoint. The
    network may begin at them.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fits them, unless a checkpoint brought them."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, Autoencoder) or not isinstance(data, WholeImages):
            return
        if pl_module.statistics.pca is None:
            fit = None
            if trainer.is_global_zero:
                fit = fit_principal(data.targets("train"), pl_module.network.latent_dim)
            pl_module.statistics.pca = trainer.strategy.broadcast(fit)
            if (pca := pl_module.statistics.pca) is not None:
                device = pl_module.device
                parts = (pca.mean, pca.axes, pca.variances.sqrt())
                pl_module.network.begin_at(*(part.to(device) for part in parts))
