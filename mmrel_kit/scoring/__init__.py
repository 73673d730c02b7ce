# SPDX-License-Identifier: Apache-2.0
"""Score answers to a release: other readers, open-ended answers, intervals, comparisons, reports.

`relation_accuracy.py` reads yes and no and counts; this room reads files and releases, and says how
sure the figures are.
"""
