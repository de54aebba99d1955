"""The baseline of a bundle: from its samples, else from its profile; None where it has neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import ModelDescription, Task
from runtime.bundle.profile import FeatureReference, Profile
from runtime.bundle.samples import Samples
from runtime.monitoring.layout import Feature, Role, TensorLike, columns, features_of
from runtime.monitoring.reference import Baseline, baseline_of, make_baseline
from runtime.monitoring.summary import Summary, restated
from runtime.tensors import Array


def features_of_bundle(
    manifest: ModelDescription | None, inputs: Sequence[TensorLike], outputs: Sequence[TensorLike]
) -> tuple[Feature, ...]:
    """The features of a model's tensors, with what its manifest declares where there is one."""
    if manifest is None:
        return features_of(inputs, outputs, is_classifier=False, ranges={})
    ranges = {tensor.name: tensor.range for tensor in (*manifest.inputs, *manifest.outputs) if tensor.range is not None}
    is_classifier = manifest.task is Task.CLASSIFICATION
    return features_of(manifest.inputs, manifest.outputs, is_classifier=is_classifier, ranges=ranges)


def bundled_baseline(bundle: Bundle) -> Baseline | None:
    """By the outputs that the bundle carries: the same on every machine that has it, whichever variant runs there."""
    manifest = bundle.manifest
    if manifest is None:
        return None
    features = features_of_bundle(manifest, manifest.inputs, manifest.outputs)
    profile = bundle.profile()
    if profile is not None and profile.features:
        return baseline_of(bundle.name, bundle.version, features, profile.features)
    samples = bundle.samples()
    if samples is None:
        return None
    values = columns(features, samples.inputs, samples.outputs)
    return make_baseline(bundle.name, bundle.version, features, values)


def as_answered(baseline: Baseline, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Baseline:
    """The same bins, outputs counted anew: of the variant that really answers, for int8 answers lie otherwise than fp32's."""
    seen = Summary(baseline)
    seen.update(inputs, outputs)
    references = [
        restated(reference, seen.features[feature.name])
        if feature.role is Role.OUTPUT and seen.features[feature.name].rows
        else reference
        for feature, reference in zip(baseline.features, baseline.references, strict=True)
    ]
    return replace(baseline, references=tuple(references))


def without_outputs(baseline: Baseline) -> Baseline:
    """The same bins, nothing said of outputs: for rows of machines whose variants differ, compared with rows before alone."""
    nothing = {"rows": 0, "missing": 0, "not_finite": 0, "out_of_schema": 0}
    references = [
        reference.model_copy(update={**nothing, "counts": (0,) * len(reference.counts)})
        if feature.role is Role.OUTPUT
        else reference
        for feature, reference in zip(baseline.features, baseline.references, strict=True)
    ]
    return replace(baseline, references=tuple(references))


def with_features(profile: Profile, model: ModelDescription, samples: Samples) -> Profile:
    """The profile with a reference for every feature, as new bundles carry it."""
    features = features_of_bundle(model, model.inputs, model.outputs)
    baseline = make_baseline(model.name, model.version, features, columns(features, samples.inputs, samples.outputs))
    named: dict[str, FeatureReference] = {
        feature.name: reference for feature, reference in zip(baseline.features, baseline.references, strict=True)
    }
    return profile.model_copy(update={"features": named})
