"""Exports: a checkpoint's weights handed to their tenant, as a PEFT folder or merged into the base model."""
