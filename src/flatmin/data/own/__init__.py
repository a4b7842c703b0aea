"""Images of a user's own: a folder of image files, or parquet files, as arrays."""
