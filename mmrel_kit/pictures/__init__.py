# SPDX-License-Identifier: Apache-2.0
"""Pictures: where they lie, whether they are whole, and how a training loop decodes them.

`Picture` and `shuffle_pictures` are for training loops; nothing here changes a picture's bytes.
"""

from mmrel_kit.pictures.decode import Picture, shuffle_pictures

__all__ = ["Picture", "shuffle_pictures"]
