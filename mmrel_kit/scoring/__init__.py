# SPDX-License-Identifier: Apache-2.0
"""What the metric itself leaves out: other readers, intervals, comparisons, reports.

`relation_accuracy.py` counts; this room says how sure the counts are.
"""
