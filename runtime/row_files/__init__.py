"""Files of rows: a reader and a writer per format (.npz, .npy, .csv, .jsonl, .parquet; folders of images in)."""
