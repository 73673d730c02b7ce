# SPDX-License-Identifier: Apache-2.0
"""Known issues of a benchmark's questions and pictures, as data.

The audit reports; only `build --drop` leaves questions out.
"""
