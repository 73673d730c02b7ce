# SPDX-License-Identifier: Apache-2.0
"""The verbs of the command `mmrel`: their arguments, and calls of the rooms that do the work."""
