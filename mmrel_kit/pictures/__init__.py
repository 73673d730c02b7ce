# SPDX-License-Identifier: Apache-2.0
"""Find, read and validate pictures, and decode them in a training loop.

`Picture` and `shuffle_pictures` are for training loops; nothing here changes a picture's bytes.
"""

from mmrel_kit.pictures.decode import Picture, shuffle_pictures

__all__ = ["Picture", "shuffle_pictures"]
