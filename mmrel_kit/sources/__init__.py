# SPDX-License-Identifier: Apache-2.0
"""Where questions and pictures come from: files on this machine, and hosts to fetch them from."""
