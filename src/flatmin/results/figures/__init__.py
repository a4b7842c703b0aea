"""The figures of the page, each as svg text that depends on its input alone, with a caption and words for who is blind.

``every`` has them all by name; the other modules hold one subject each, on the marks and axes of ``drawn``.
"""
