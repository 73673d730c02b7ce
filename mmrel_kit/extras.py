# SPDX-License-Identifier: Apache-2.0
"""Name the extra that a missing package belongs to, in one line."""

from __future__ import annotations

import traceback

from mmrel_kit.files import IS_CLONE

# What `pip install` needs for a module, in a clone: "." is the core, the others are the extras of
# pyproject.toml.
SOURCES = {
    **dict.fromkeys(("datasets", "fsspec", "huggingface_hub", "jsonschema", "numpy", "PIL"), "."),
    **dict.fromkeys(("pyarrow", "tqdm", "yaml"), "."),
    **dict.fromkeys(("openai", "fastapi", "uvicorn", "pydantic"), ".[semidc]"),
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "accelerate"), ".[finetune]"),
    "datatrove": ".[cluster]",
    "ray": "datatrove[ray]",
    "imagehash": ".[audit]",
    "inspect_ai": ".[inspect]",
    "jsonschema_rs": ".[fast]",
    "matplotlib": ".[plot]",
    "mlcroissant": ".[croissant]",
}
# Packages whose name is not that of their module.
PACKAGES = {
    "PIL": "Pillow",
    "imagehash": "ImageHash",
    "inspect_ai": "inspect-ai",
    "jsonschema_rs": "jsonschema-rs",
    "yaml": "PyYAML",
}


def explain_import(error: ImportError) -> str | None:
    """Return which package is missing or broken and what to install; None if none of `SOURCES` is.

    A module that an installed package misses (torch without its sympy) is that package's problem,
    and the line names both.
    """
    if isinstance(error, ModuleNotFoundError) and error.name in SOURCES:
        package, source = PACKAGES.get(error.name, error.name), SOURCES[error.name]
        if source.startswith(".") and not IS_CLONE:
            source = f"path/to/clone{source[1:]}"
        return f"{package} is not installed; install what it needs: pip install {_quote(source)}"
    if (module := _find_importing(error)) is None:
        return None
    package = PACKAGES.get(module, module)
    again = f"pip install --force-reinstall {package}"
    return f"{package} is installed and cannot be imported: {error}; install it anew: {again}"


def _find_importing(error: ImportError) -> str | None:
    """Return the module of `SOURCES` in whose code an import failed, or that lacks a name."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module in SOURCES:
            return module
    module = str(error.name).partition(".")[0]
    return module if module in SOURCES else None


def _quote(source: str) -> str:
    return f"'{source}'" if "[" in source else source
