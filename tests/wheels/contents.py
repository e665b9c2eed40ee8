"""Say what is wrong with a wheel: `contents.py WHEEL CHECKOUT`. Needs pyelftools, as auditwheel does."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

MODULES = {
    "memchannel/_core": {"PyInit__core", "memchannel_core_identity"},
    "memchannel/images/_capi": {"PyInit__capi"},
}
# What every system that the tag allows has itself; anything else would have to be in the wheel.
SYSTEM = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "ld-linux-x86-64.so.2"}
LARGEST = 2_000_000  # bytes, packed: several times of what it takes; something stray is larger
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def names_that_differ(names: set[str], checkout: Path) -> Iterator[str]:
    """Compare the files of the wheel with the sources and the two extension modules."""
    sources = {
        path.relative_to(checkout / "python").as_posix()
        for path in (checkout / "python" / "memchannel").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed"
    }
    built = {name for name in names if name.endswith(".so")}
    metadata = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    for name in sorted(names - sources - built - metadata):
        yield f"{name} does not belong into the wheel"
    for name in sorted(sources - names):
        yield f"{name} is missing"
    if {name.partition(".")[0] for name in built} != set(MODULES):
        yield f"the extension modules are {sorted(built)}, not {sorted(MODULES)}"
    told = {name.partition("/")[2] for name in metadata}
    if not told >= METADATA or {name for name in told - METADATA if not name.startswith("sboms/")}:
        yield f"the metadata are {sorted(told)}, not {sorted(METADATA)}"


def faults_of_module(name: str, content: bytes) -> Iterator[str]:
    """Look at what an extension module shows, needs and carries along."""
    elf = ELFFile(io.BytesIO(content))  # type: ignore[no-untyped-call]
    symbols = {
        symbol.name
        for section in elf.iter_sections("SHT_DYNSYM")  # type: ignore[no-untyped-call]
        if isinstance(section, SymbolTableSection)
        for symbol in section.iter_symbols()  # type: ignore[no-untyped-call]
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
    }
    meant = MODULES[name.partition(".")[0]]
    if symbols != meant:
        yield f"{name} exports {sorted(symbols)}, not {sorted(meant)}"
    for section in elf.iter_sections():  # type: ignore[no-untyped-call]
        if section.name == ".symtab" or section.name.startswith(".debug"):
            yield f"{name} is not stripped: it has {section.name}"
        if isinstance(section, DynamicSection):
            tags = list(section.iter_tags())  # type: ignore[no-untyped-call]
            needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
            if needed - SYSTEM:
                yield f"{name} needs {sorted(needed - SYSTEM)}, which not every system has"
            if any(tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH") for tag in tags):
                yield f"{name} looks for libraries in a folder of the machine that built it"


def faults(wheel: Path, checkout: Path) -> Iterator[str]:
    """Give everything that is wrong, as sentences."""
    if wheel.stat().st_size > LARGEST:
        yield f"it has {wheel.stat().st_size} bytes, more than {LARGEST}"
    if "manylinux_" not in wheel.name:
        yield "its tag is of this machine alone: auditwheel did not repair it"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        yield from names_that_differ(names, checkout)
        for name in sorted(names):
            if PurePosixPath(name).suffix == ".so":
                yield from faults_of_module(name, archive.read(name))


def main() -> int:
    """Print the faults; 1 if there are any."""
    wheel, checkout = map(Path, sys.argv[1:])
    found = list(faults(wheel, checkout))
    for fault in found:
        print(f"{wheel.name}: {fault}", file=sys.stderr)
    if not found:
        print(f"{wheel.name}: nothing stray, only what is meant is exported, {wheel.stat().st_size} bytes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
