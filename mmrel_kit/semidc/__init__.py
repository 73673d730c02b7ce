# SPDX-License-Identifier: Apache-2.0
"""Semi-automatic labelling: a model proposes relations, people verify them, records come out.

`model` asks the model; `people` serves the page and turns decisions into records.
"""

from mmrel_kit.semidc.words import make_triplet as make_triplet
