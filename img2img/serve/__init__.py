"""`img2img serve`: a page in the browser, and a small HTTP API, that restore pictures on this machine."""
