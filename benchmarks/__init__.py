# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of this project and its peers; each program's docstring says how to run it."""
