# SPDX-License-Identifier: Apache-2.0
"""Copy the drawn sample and the schema into the wheel; everything else is in pyproject.toml.

The clone has them at the top, in the layout of a release; the wheel in `mmrel_kit/sample`.
"""

import json
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CLONE = Path(__file__).resolve().parent
# Files to copy besides those that checksums.json lists.
BESIDE = ("checksums.json", "README.md", "LICENSE")


class BuildWithSample(build_py):
    """Build the package, then copy the sample into it."""

    def run(self) -> None:
        """Run the command in an empty build folder."""
        built = Path(self.build_lib).resolve()
        if built.is_relative_to(CLONE / "build"):
            shutil.rmtree(built, ignore_errors=True)
        super().run()
        if not self.editable_mode:  # an editable install reads the clone
            self._copy_sample(Path(self.build_lib, "mmrel_kit", "sample"))

    def _copy_sample(self, target: Path) -> None:
        listed = json.loads((CLONE / "checksums.json").read_text("utf-8"))["files"]
        schemas = [f"schema/{path.name}" for path in (CLONE / "schema").glob("*.json")]
        shutil.rmtree(target, ignore_errors=True)
        for name in {*listed, *BESIDE, *schemas}:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CLONE / name, target / name)


setup(cmdclass={"build_py": BuildWithSample})
