# SPDX-License-Identifier: Apache-2.0
"""Explain a failed import in one line, with the extra to install."""

from __future__ import annotations

import traceback

from mmrel_kit.files import IS_CLONE

# What to install for a module, in a clone: "." is the core, the others are the extras of
# pyproject.toml.
SOURCES = {
    **dict.fromkeys(("datasets", "filelock", "fsspec", "huggingface_hub", "numpy", "PIL"), "."),
    **dict.fromkeys(("aiohttp", "jsonschema", "jsonschema_rs", "pyarrow", "tqdm"), "."),
    **dict.fromkeys(("yaml", "yarl"), "."),
    **dict.fromkeys(("openai", "fastapi", "uvicorn", "pydantic"), ".[semidc]"),
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "accelerate"), ".[finetune]"),
    "datatrove": ".[cluster]",
    "ray": "datatrove[ray]",
    "imagehash": ".[audit]",
    "inspect_ai": ".[inspect]",
    "matplotlib": ".[plot]",
    "mlcroissant": ".[croissant]",
}
# Packages with another name than their module.
PACKAGES = {
    "PIL": "Pillow",
    "imagehash": "ImageHash",
    "inspect_ai": "inspect-ai",
    "jsonschema_rs": "jsonschema-rs",
    "yaml": "PyYAML",
}


def explain_import(error: ImportError) -> str | None:
    """Return which package is missing or broken, and how to install it.

    If an installed package lacks a module of its own dependencies (torch without sympy), the line
    names both. Return None if no package of `SOURCES` is involved.
    """
    if isinstance(error, ModuleNotFoundError) and error.name in SOURCES:
        package, source = PACKAGES.get(error.name, error.name), SOURCES[error.name]
        if source.startswith(".") and not IS_CLONE:
            source = f"path/to/clone{source[1:]}"
        if "[" in source:
            source = f"'{source}'"
        return f"{package} is not installed; install what it needs: pip install {source}"
    module = _find_failed_module(error)
    if module is None:
        return None
    package = PACKAGES.get(module, module)
    return (
        f"{package} is installed and cannot be imported: {error}; "
        f"install it anew: pip install --force-reinstall {package}"
    )


def _find_failed_module(error: ImportError) -> str | None:
    """Return the module of `SOURCES` in which an import failed, or that lacks a name."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module in SOURCES:
            return module
    module = str(error.name).partition(".")[0]
    return module if module in SOURCES else None
