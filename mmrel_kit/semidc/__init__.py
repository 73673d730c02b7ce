# SPDX-License-Identifier: Apache-2.0
"""Semi-automatic labelling: a model proposes relations, people verify them, records are exported.

`model` holds the steps that need a model, `people` those that need annotators.
"""

from mmrel_kit.semidc.words import make_triplet as make_triplet
