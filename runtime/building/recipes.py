"""What can be made of which source: the variants, in what order, by which function, and what each needs installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

from runtime.bundle.manifest import Format, LeftOut

CONVERT_HINT: Final = "pip install 'edgeward[convert]'"
# What reading a source of that format takes, before any recipe does.
READER_NEEDS: Final[Mapping[Format, tuple[str, ...]]] = {Format.ONNX: ("onnx",), Format.TORCH: ("torch",)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one variant is made."""

    name: str
    """Of the variant and of its file."""
    format: Format
    precision: str
    work: str
    """`module:function`, called with `source`, `target`, `options` and, with `needs_rows`, `rows`."""
    made_from: str | None = None
    """The variant it is made from; None: the source."""
    needs: tuple[str, ...] = ()
    """Modules, as imported."""
    needs_rows: bool = False
    """Whether it is calibrated on rows."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def missing(self) -> str | None:
        """Why it cannot be made here; None when everything is installed. Imports nothing."""
        return not_installed(self.needs)


def not_installed(modules: Iterable[str]) -> str | None:
    """The first of `modules` that is not there, and how to get it; None when all are. Imports nothing."""
    for module in modules:
        if find_spec(module) is None:
            return f"{module.replace('_', '-')} is not installed: {CONVERT_HINT}"
    return None


_ONNX: Final = "runtime.building.onnx_recipes"
_TFLITE: Final = "runtime.building.tflite_recipes"
_TORCH: Final = "runtime.building.torch_recipes"

_TORCH_TO_ONNX: Final = Recipe(
    "fp32.onnx", Format.ONNX, "fp32", f"{_TORCH}:write_onnx", needs=("torch", "onnx", "onnxscript")
)
_TORCH_TO_TFLITE: Final = Recipe(
    "fp32.tflite", Format.TFLITE, "fp32", f"{_TORCH}:write_tflite", needs=("torch", "litert_torch")
)


def _onnx_family(made_from: str | None) -> tuple[Recipe, ...]:
    """fp16 and both int8 recipes.

    Without VNNI, AVX2 adds products of 8-bit activations and weights in pairs in 16 bits, which saturates (vpmaddubsw);
    ONNX Runtime's `quantize_static` offers `reduce_range`, weights of 7 bits, for such machines: `int8-avx2.onnx`.
    `int8.onnx` has all 8. Each machine measures both and guards their accuracy.
    """
    needs = ("onnx", "onnxruntime")
    int8 = f"{_ONNX}:write_int8"
    return (
        Recipe("fp16.onnx", Format.ONNX, "fp16", f"{_ONNX}:write_fp16", made_from, needs),
        Recipe("int8.onnx", Format.ONNX, "int8", int8, made_from, needs, True, {"reduce_range": False}),
        Recipe("int8-avx2.onnx", Format.ONNX, "int8", int8, made_from, needs, True, {"reduce_range": True}),
    )


def _tflite_family(made_from: str | None) -> tuple[Recipe, ...]:
    needs = ("ai_edge_quantizer", "ai_edge_litert")
    return (
        Recipe("int8.tflite", Format.TFLITE, "int8", f"{_TFLITE}:write_int8", made_from, needs, True),
        Recipe("dynamic-int8.tflite", Format.TFLITE, "dynamic-int8", f"{_TFLITE}:write_dynamic_int8", made_from, needs),
    )


def recipes_for(format_: Format, precision: str) -> tuple[tuple[Recipe, ...], tuple[LeftOut, ...]]:
    """What can be made of a source of this format and precision, and what cannot, with the reason."""
    impossible: list[LeftOut] = []
    if format_ is Format.ONNX:
        recipes = _onnx_family(None)
        impossible.append(
            LeftOut(
                name="*.tflite",
                reason="no converter from ONNX to TFLite works beside ai-edge-quantizer; "
                "build from the PyTorch model, exported as .pt2",
            )
        )
    elif format_ is Format.TFLITE:
        recipes = _tflite_family(None)
        impossible.append(
            LeftOut(
                name="*.onnx",
                reason="no maintained converter leads from TFLite to ONNX; build from .onnx or .pt2 instead",
            )
        )
    else:
        recipes = (_TORCH_TO_ONNX, *_onnx_family("fp32.onnx"), _TORCH_TO_TFLITE, *_tflite_family("fp32.tflite"))
    if format_ is not Format.TORCH:
        impossible.append(LeftOut(name="*.pt2", reason="a PyTorch program is made of a PyTorch program only"))
        if precision != "fp32":
            reason = f"the source is {precision} already; it is made from fp32"
            impossible += [LeftOut(name=recipe.name, reason=reason) for recipe in recipes]
            recipes = ()
    return recipes, tuple(impossible)
