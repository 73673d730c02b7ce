# SPDX-License-Identifier: Apache-2.0
"""How others use MMRel: ask an endpoint, export for trainers, fine-tune, run in other harnesses.

Each recipe needs only the extra that it names.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
