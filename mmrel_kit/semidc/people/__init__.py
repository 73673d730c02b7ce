# SPDX-License-Identifier: Apache-2.0
"""Show proposals to people, store their decisions, and turn them into records.

A project is one SQLite file.
"""
