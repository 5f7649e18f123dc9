"""Image files and pixels; knows nothing about training.

`img2img.imaging.files` finds, reads and writes pictures as NumPy arrays. It is imported where it is needed
and not here, because it loads libvips and Pillow, which commands such as `img2img --help` do not need.
"""
