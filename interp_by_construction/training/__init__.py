"""Thin LightningModules, pure losses, and one resumable `fit`."""
