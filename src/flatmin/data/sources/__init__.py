"""One module per source of images. A new module here, with its ``SOURCE``, is a new source."""
