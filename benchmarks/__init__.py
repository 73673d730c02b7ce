# SPDX-License-Identifier: Apache-2.0
"""Measurements of this project beside its peers; each program's docstring says how to run it."""
