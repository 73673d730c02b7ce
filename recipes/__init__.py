"""How others use MMRel: evaluate with lmms-eval, an endpoint or inspect_ai, export for trainers, fine-tune."""
