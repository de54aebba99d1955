"""Building bundles: from a model file and calibration rows to variants that were measured, with the reasons for the others.

`build` goes through it, `check` measures a finished bundle again. `request` is what a person asks for, `rows` what the
model is fed, `description` the canonical tensors and where they lie in each variant's own. `source_accuracy` refuses a
source that is wrong on the rows, and `causes` finds out why. `recipes` lists what can be made of what; `onnx_recipes`,
`tflite_recipes` and `torch_recipes` make it, each in a process of its own (`workshop`, `isolated`, `worker`). No converter
or engine is imported in the process that builds.
"""
