# SPDX-License-Identifier: Apache-2.0
"""Tests; `helpers`, `hub` and `drawing` hold what is no test."""
