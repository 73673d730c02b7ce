# SPDX-License-Identifier: Apache-2.0
"""Use MMRel with other tools: endpoints, trainers, clusters and evaluation harnesses.

Each recipe needs only the extra that it names.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
