# SPDX-License-Identifier: Apache-2.0
"""Select pictures and ask a model for relations, or for pictures of relations.

Every step reads and writes JSON lines.
"""
