# SPDX-License-Identifier: Apache-2.0
"""Describe a release: README blocks, dataset_infos.json, croissant.json, eval.yaml, contact sheet.

These functions take statistics and return text or bytes.
"""
