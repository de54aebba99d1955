"""Rows of a file against a bundle: run, compared with its reference, and, by labels, searched for where the model is wrong."""
