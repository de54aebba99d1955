"""A bundle once more under its own name and version, with fewer samples: rebuilt, in the eyes of whoever served the first."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from runtime.bundle.bundle import Bundle, read_bundle
from runtime.bundle.samples import Samples, samples_to_npz


def with_samples(bundle: Bundle, folder: Path, chosen: np.ndarray) -> Bundle:
    """`bundle` in `folder`, with the samples whose indices are `chosen` and without a profile."""
    shutil.copytree(bundle.root, folder)
    samples = bundle.samples()
    assert samples is not None
    assert samples.labels is not None
    inputs, outputs = (
        {name: value[chosen] for name, value in part.items()} for part in (samples.inputs, samples.outputs)
    )
    content = samples_to_npz(Samples(inputs, outputs, samples.labels[chosen]))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / manifest["samples"]["file"]).write_bytes(content)
    manifest["samples"] |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    del manifest["profile"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return read_bundle(folder)
