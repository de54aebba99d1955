"""The bundle: a model as it ships.

`manifest` (what it may say), `bundle` (on disk), `bare` (a lone model file), `locate` (from a path or name to bundles),
`samples` and `profile` (two of its files), `writing` (a folder or a tar of one, from values).
"""
