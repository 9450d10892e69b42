"""The labeler: the language model that labels and simulates nodes, behind one interface.

`make_labeler` is imported from `llm.client`; importing this package alone costs nothing.
"""
