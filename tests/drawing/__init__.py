# SPDX-License-Identifier: Apache-2.0
"""Scripts that draw the sample and its answers."""
