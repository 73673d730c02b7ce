# SPDX-License-Identifier: Apache-2.0
"""Where MMRel's questions and pictures are published, and their licences."""

from __future__ import annotations

QUESTIONS = "hf://datasets/jiahaonie/MMRel@d8dc080/json"  # of 2024-11-17
QUESTIONS_LICENCE = "CC-BY-4.0"

# Domain -> the hosts of its pictures, in the order in which they are tried.
HOSTS = {
    "real": (
        "https://cs.stanford.edu/people/rak248/",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip",
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip",
        "hf://datasets/BoyangZ/VisualGenome_VG_100K_1_and_2",
    ),
    "sdxl": ("hf://datasets/wjpoom/SPEC/data.zip",),
    "dalle": ("hf://datasets/jiahaonie/MMRel@d8dc080/Dall-E_generated",),
}
CONTENTS = {
    "real": "photographs of Visual Genome, with terms of their own; annotations CC-BY-4.0",
    "sdxl": "pictures of SPEC, Apache-2.0",
    "dalle": "pictures of MMRel, CC-BY-4.0",
}
