# SPDX-License-Identifier: Apache-2.0
"""The record: what a question is, how it is worded and read, and where questions come from.

Formats of upstream's files end here; every other room sees records of the contract.
"""
