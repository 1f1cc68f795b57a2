"""Fitting of fields by score distillation: the teacher, a training step, and the fields that methods fit."""
