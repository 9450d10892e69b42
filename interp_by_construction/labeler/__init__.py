"""The labeler: the language model that labels and simulates nodes, behind one interface.

`make_labeler` is imported from `labeler.client`; importing this package alone costs nothing.
"""
