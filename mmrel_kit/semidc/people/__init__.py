# SPDX-License-Identifier: Apache-2.0
"""Show proposals to annotators, store their decisions, and turn these into records.

A project is one SQLite file.
"""
