"""The language models that label, simulate and judge, behind one interface."""
