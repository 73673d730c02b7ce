# SPDX-License-Identifier: Apache-2.0
"""Check a release against its contract and the requirements of the Hub's viewer.

Checks yield problems and change nothing.
"""
