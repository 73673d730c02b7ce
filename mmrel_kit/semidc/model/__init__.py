# SPDX-License-Identifier: Apache-2.0
"""Select pictures, ask a model for relations in them, or generate pictures of relations.

Every step reads and writes JSON lines.
"""
