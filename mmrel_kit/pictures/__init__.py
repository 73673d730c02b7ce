# SPDX-License-Identifier: Apache-2.0
"""Pictures: where they lie, whether they are whole, and how a training loop decodes them.

Nothing here changes a picture's bytes.
"""
