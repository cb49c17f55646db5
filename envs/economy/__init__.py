"""The economy beside a battle: workers that gather, buildings that workers raise, units that buildings train, supply.

A battle's state knows nothing of it. Worlds with an economy have one `Economy` of arrays more, and run
`step.advance_with_economy` instead of `advance_world`.

Order of reading: tables, tech, units, purchases, placement, supply, walking, gathering, buildings, production, step.
"""
