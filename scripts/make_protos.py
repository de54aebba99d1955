"""Compile protos/*.proto into what is committed beside them: one descriptor set, a stub per file.

    python scripts/make_protos.py            write descriptors.binpb and a .pyi for each
    python scripts/make_protos.py --check    write nothing; exit 1 when one of them is stale

Needs grpcio-tools (in the `dev` extra), at the version in the constraints file: another protoc may
word its stubs differently.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent.parent / "protos"
NAMES = ("inference", "health", "reflection")
DESCRIPTORS = "descriptors.binpb"

# protoc's stubs say that an enum's metaclass is EnumTypeWrapper, which is not a metaclass. This
# one has the same methods and lets `Value` return a member, as message constructors expect.
STUB_HEAD = """\
# Made by scripts/make_protos.py from {name}.proto. Do not edit.
from protos._pool import Method as _Method
from typing import Any as _Any, Final as _Final, TypeVar as _TypeVar
"""
STUB_SERVICE = """\
DESCRIPTOR: _Final[_descriptor.FileDescriptor]
SERVICE: _Final[str]
METHODS: _Final[_Mapping[str, _Method]]

_Member = _TypeVar("_Member")

class _Enum(type):
    DESCRIPTOR: _descriptor.EnumDescriptor
    def Name(cls, number: int) -> str: ...
    def Value(cls: type[_Member], name: str) -> _Member: ...
    def keys(cls) -> list[str]: ...
    def values(cls: type[_Member]) -> list[_Member]: ...
    def items(cls: type[_Member]) -> list[tuple[str, _Member]]: ...
"""


def compiled() -> dict[str, bytes]:
    """File name to content of everything this script makes, from the `.proto` files as they are."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
        outputs = [f"--descriptor_set_out={out / DESCRIPTORS}", f"--pyi_out={out}"]
        subprocess.run([*protoc, *outputs, *(f"{name}.proto" for name in NAMES)], check=True)
        made = {DESCRIPTORS: (out / DESCRIPTORS).read_bytes()}
        for name in NAMES:
            stub = (out / f"{name}_pb2.pyi").read_text(encoding="utf-8")
            made[f"{name}.pyi"] = adapted(name, stub).encode()
        return made


def adapted(name: str, stub: str) -> str:
    """The stub protoc makes for a generated module, made true of ours and fit for `mypy --strict`."""
    stub = stub.replace("from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper\n", "")
    stub = stub.replace("metaclass=_enum_type_wrapper.EnumTypeWrapper", "metaclass=_Enum")
    stub = stub.replace("DESCRIPTOR: _descriptor.FileDescriptor\n", STUB_SERVICE, 1)
    stub = re.sub(r"_Mapping\]", "_Mapping[str, _Any]]", stub)  # a message given as a dict
    return STUB_HEAD.format(name=name) + stub


def stale(made: dict[str, bytes]) -> list[str]:
    """Names of the committed files that differ from what was made, or are missing."""
    return [
        name
        for name, content in made.items()
        if not (PROTOS / name).is_file() or (PROTOS / name).read_bytes() != content
    ]


def main() -> int:
    """Write or check, as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    check = parser.parse_args().check
    try:
        made = compiled()
    except subprocess.CalledProcessError as error:
        print(f"protoc failed with exit code {error.returncode}; its words are above. If it is missing:")
        print("pip install grpcio-tools")
        return 1
    names = stale(made)
    if check and names:
        print(f"stale in {PROTOS.name}/: {', '.join(names)}; run python scripts/make_protos.py")
        return 1
    for name in names:
        (PROTOS / name).write_bytes(made[name])
        print(f"wrote {PROTOS.name}/{name} ({len(made[name])} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
