"""`python -m img2img` is the same program as `img2img`."""

from img2img.cli import main

if __name__ == "__main__":
    main()
