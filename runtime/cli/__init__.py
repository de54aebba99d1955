"""Commands of the runtime, one file each with a typer `app`; `edgeward.py` puts them together. Nothing is decided here."""
