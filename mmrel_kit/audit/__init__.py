# SPDX-License-Identifier: Apache-2.0
"""Check questions and pictures for known issues; `kinds.py` lists the checks as data.

The audit only reports; `build --drop` leaves questions out.
"""
