"""Runs large images through a network in tiles: geometry, memory, stitching; knows nothing about files or tasks."""
