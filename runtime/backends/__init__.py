"""Engines that run a variant: one file each, behind the interface in `base`; `registry` lists them."""
