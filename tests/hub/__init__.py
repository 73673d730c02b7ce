# SPDX-License-Identifier: Apache-2.0
"""A Hub on the loopback, and tools that test publishing with it."""
