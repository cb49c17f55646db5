"""The state of many StarCraft II-like battles in a few arrays, and the tables that rule them.

Order of reading: layout, compilation, maps, worlds, units, orders. Use, from Python or from any `@njit` function:

    rules = envs.scenarios.units.Rules(["Marine", "Zealot"], map_spec=MapSpec(32, 32), players=2)
    state = new_state(rules.static, num_worlds=1024, max_units=6, seed=0)
    for b in range(1024):                                         # in practice inside `@njit(parallel=True)`, prange(B)
        reset_world(state, b, seed)                               # empty world, loop 0, RNG key = seed
        i = create_unit(state, rules.static, b, rules.kind["Marine"], owner=1, x=9.0, y=16.0)   # slot, -1 when full
        issue_order(state, rules.static, b, i, ORDER_ATTACK_MOVE, -1, 23.0, 16.0, False)
        advance_world(state, rules.static, b, 8)                  # envs.engine.step

These functions change orders, kinds, clocks and flags of a unit. Other code that does so sets the unit's `I_WAKE` to 0:
otherwise a unit with nothing to decide (quiet.py) does not notice. Places, health, shields and energy may be written.
"""
