"""The battle engine: state (structures of arrays), and the kernels that advance it.

Order of reading: state, step, simd (vectors, lookup, collisions, steps), neighbours, targeting, quiet, decisions,
movement, damage, vision, pathing.
"""
