# SPDX-License-Identifier: Apache-2.0
"""Check a release against the contract and against what the Hub's viewer needs.

Checks yield problems; they change nothing.
"""
