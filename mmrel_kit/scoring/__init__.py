# SPDX-License-Identifier: Apache-2.0
"""Score a release: other readers, open-ended answers, files of answers, intervals, comparisons, reports.

`relation_accuracy.py` reads `words` and counts; this room says how sure the counts are.
"""
