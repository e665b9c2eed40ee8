"""What installed distributions declare to require, in terms of import names."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable

from ._packages import PACKAGES


def required_packages(packages: Iterable[str]) -> set[str]:
    """Return the import names of what the named packages require, directly or not, without extras."""
    waiting = [_distribution_name(name) for name in packages]
    seen: set[str] = set()
    names: set[str] = set()
    while waiting:
        project = _normalized(waiting.pop())
        if project in seen:
            continue
        seen.add(project)
        try:
            distribution = importlib.metadata.distribution(project)
        except importlib.metadata.PackageNotFoundError:
            continue
        names.update(_import_names(distribution))
        for requirement in distribution.requires or ():
            name, _, marker = requirement.partition(";")
            if "extra" not in marker and (match := re.match(r"[\w.-]+", name.strip())):
                waiting.append(match.group())
    return names


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution_name(package: str) -> str:
    if package in PACKAGES:
        return PACKAGES[package].distribution
    try:
        return importlib.metadata.distribution(package).name
    except importlib.metadata.PackageNotFoundError:  # slow, and rarely needed: names that differ
        return importlib.metadata.packages_distributions().get(package, [package])[0]


def _import_names(distribution: importlib.metadata.Distribution) -> set[str]:
    listed = distribution.read_text("top_level.txt")
    if listed is not None:
        return set(listed.split())
    tops = {
        file.parts[0].partition(".")[0] for file in distribution.files or () if file.suffix in (".py", ".so")
    }
    return {top for top in tops if top.isidentifier()}
