"""Token flow: enlarged attention and token propagation in a multiview network (paper sections 3.1 and 3.3)."""
