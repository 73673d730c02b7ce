# SPDX-License-Identifier: Apache-2.0
"""Parse upstream's annotation files into records of the contract, and store them.

No other room reads upstream's formats.
"""
