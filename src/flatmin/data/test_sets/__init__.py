"""One module per further test set. A new module here, with its ``TEST_SET``, is a new test set."""
