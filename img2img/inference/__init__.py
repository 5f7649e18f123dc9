"""Restoring folders of images: jobs, tiles, network, writer, journal, report."""
