# SPDX-License-Identifier: Apache-2.0
"""Everything behind the three doors `mmrel.py`, `relation_accuracy.py` and `upload.py`.

Each room (folder) does one thing; docs/maintaining.md lists them, and which may use which.
"""
