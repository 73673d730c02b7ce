# SPDX-License-Identifier: Apache-2.0
"""A Hub on the loopback, and what tests publishing against it."""
