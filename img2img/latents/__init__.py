"""An autoencoder over a folder: table of latents, reconstructions, directions, and pictures of what latents mean."""
