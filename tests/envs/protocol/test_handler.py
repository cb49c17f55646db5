"""The handler: states, errors, maps, options, robustness against bad bytes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from s2clientprotocol import debug_pb2, error_pb2, query_pb2, raw_pb2, sc2api_pb2

from envs.engine.state import layout as st
from envs.protocol.handler import ENDED, IN_GAME, INIT_GAME, LAUNCHED, QUIT, Session
from envs.protocol.maps import MapError, available_maps, find_map

RAW = sc2api_pb2.InterfaceOptions(raw=True, score=True)


def ask(session, **request):
    """The Response to one request."""
    data = sc2api_pb2.Request(id=7, **request).SerializeToString()
    response = sc2api_pb2.Response.FromString(session.handle(data))
    assert response.HasField("status")
    return response


def create(session, name, players=1, computer=0, **options):
    request = sc2api_pb2.RequestCreateGame(random_seed=3, **options)
    request.local_map.map_path = name
    for _ in range(players):
        request.player_setup.add(type=sc2api_pb2.Participant)
    if computer:
        request.player_setup.add(type=sc2api_pb2.Computer, race=1, difficulty=computer)
    return ask(session, create_game=request)


def join(session, options=RAW, port=0):
    request = sc2api_pb2.RequestJoinGame(race=1, options=options)
    if port:
        request.server_ports.game_port = port
        request.server_ports.base_port = port + 1
    return ask(session, join_game=request)


def play(name="3m", computer=7, options=RAW, **create_options):
    session = Session()
    assert not create(session, name, computer=computer, **create_options).create_game.HasField("error")
    response = join(session, options)
    assert response.status == IN_GAME and response.join_game.player_id == 1
    return session


def observe(session, **request):
    response = ask(session, observation=sc2api_pb2.RequestObservation(**request))
    assert not response.error, response.error
    return response.observation


def units(observation, alliance=None):
    return [u for u in observation.observation.raw_data.units if alliance in (None, u.alliance)]


def step(session, count):
    return ask(session, step=sc2api_pb2.RequestStep(count=count))


def command(session, ability, tags, target=0, point=None, queue=False):
    action = sc2api_pb2.Action()
    order = action.action_raw.unit_command
    order.ability_id, order.queue_command = ability, queue
    order.unit_tags.extend(tags)
    if target:
        order.target_unit_tag = target
    if point:
        order.target_world_space_pos.x, order.target_world_space_pos.y = point
    return ask(session, action=sc2api_pb2.RequestAction(actions=[action])).action.result


def test_states_and_errors_are_the_protocols_own():
    session = Session()
    assert ask(session, ping=sc2api_pb2.RequestPing()).ping.game_version.startswith("4.10")
    assert "not possible in the state launched" in step(session, 1).error[0]
    errors = sc2api_pb2.ResponseCreateGame
    assert ask(session, create_game=sc2api_pb2.RequestCreateGame()).create_game.error == errors.MissingMap
    assert create(session, "3m", players=0).create_game.error == errors.MissingPlayerSetup
    assert create(session, "3m", players=3).create_game.error == errors.InvalidPlayerSetup
    unknown = create(session, "4m")
    assert unknown.create_game.error == errors.InvalidMapPath
    assert "did you mean" in unknown.create_game.error_details
    assert join(session).error
    assert create(session, "MoveToBeacon").status == INIT_GAME
    no_options = ask(session, join_game=sc2api_pb2.RequestJoinGame(race=1))
    assert no_options.join_game.error == sc2api_pb2.ResponseJoinGame.MissingOptions
    assert join(session).status == IN_GAME
    assert step(session, 10).step.simulation_loop == 10
    assert ask(session, map_command=sc2api_pb2.RequestMapCommand(trigger_cmd="x")).map_command.error == 1
    assert ask(session, leave_game=sc2api_pb2.RequestLeaveGame()).status == LAUNCHED
    assert ask(session, quit=sc2api_pb2.RequestQuit()).status == QUIT


def test_a_mini_game_ends_at_its_timer_and_restarts():
    session = play("MoveToBeacon", computer=0)
    response = step(session, 5000)
    assert response.status == ENDED and response.step.simulation_loop == 1920
    assert observe(session).player_result[0].player_id == 1
    assert "already ended" in step(session, 1).error[0]
    assert ask(session, restart_game=sc2api_pb2.RequestRestartGame()).status == IN_GAME
    assert observe(session).observation.game_loop == 0


def test_orders_reach_the_units_and_are_reported():
    session = play()
    tags = [unit.tag for unit in units(observe(session), raw_pb2.Self)]
    assert list(command(session, 16, tags, point=(12.0, 12.0))) == [1]
    step(session, 1)
    seen = observe(session)
    assert [action.action_raw.unit_command.ability_id for action in seen.actions] == [16]
    orders = [unit.orders[0] for unit in units(seen, raw_pb2.Self)]
    assert all(order.ability_id == 16 and order.target_world_space_pos.x == 12.0 for order in orders)
    enemy = units(seen, raw_pb2.Enemy)[0]
    assert not enemy.orders and enemy.weapon_cooldown == 0
    refused = command(session, 386, tags, target=tags[0])
    assert list(refused) != [1]
    assert list(command(session, 16, [enemy.tag], point=(1.0, 1.0))) == [87]  # YouCantControlThatUnit


def test_smac_restarts_by_killing_all_units():
    session = play()
    before = observe(session)
    kill = debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=[unit.tag for unit in units(before)]))
    assert not ask(session, debug=sc2api_pb2.RequestDebug(debug=[kill])).error
    step(session, 2)
    after = observe(session)
    assert len(units(after, raw_pb2.Self)) == 3 and len(units(after, raw_pb2.Enemy)) == 3
    assert after.observation.game_loop == 2
    assert not {unit.tag for unit in units(before)} & {unit.tag for unit in units(after)}


def test_a_death_out_of_sight_is_not_told_and_a_building_stays_as_it_was_seen():
    options = sc2api_pb2.InterfaceOptions(raw=True, feature_layer=sc2api_pb2.SpatialCameraSetup(width=24))
    for size in (options.feature_layer.resolution, options.feature_layer.minimap_resolution):
        size.x = size.y = 64
    session = play("Simple64", computer=1, options=options)
    world = session.game.world

    def drawn(x, y):
        """player_relative of the minimap, a pixel to a cell."""
        layer = observe(session).observation.feature_layer_data.minimap_renders.player_relative
        return np.frombuffer(layer.data, np.uint8).reshape(64, 64)[63 - int(y), int(x)]

    def debug(**one):
        request = sc2api_pb2.RequestDebug(debug=[debug_pb2.DebugCommand(**one)])
        assert not ask(session, debug=request).error
        step(session, 4)
        return observe(session).observation.raw_data

    def make(unit_type, owner, x, y):
        create_unit = debug_pb2.DebugCreateUnit(unit_type=unit_type, owner=owner, quantity=1)
        create_unit.pos.x, create_unit.pos.y = x, y
        debug(create_unit=create_unit)
        return max(world.tag(int(slot)) for slot in world.alive_slots())

    depot, probe = make(19, 2, 32.0, 56.0), make(84, 2, 30.0, 56.0)
    scout = make(48, 1, 28.0, 52.0)

    def kill(tag):
        raw = debug(kill_unit=debug_pb2.DebugKillUnit(tag=[tag]))
        return list(raw.event.dead_units), {unit.tag: unit.display_type for unit in raw.units}

    told, listed = kill(scout)
    assert told == [scout] and listed[depot] == raw_pb2.Snapshot and probe not in listed
    told, listed = kill(probe)
    assert told == []
    assert drawn(32, 56) == raw_pb2.Enemy and drawn(30, 56) == 0
    told, listed = kill(depot)
    assert told == [] and listed[depot] == raw_pb2.Snapshot
    step(session, 4)
    assert depot in {unit.tag for unit in units(observe(session))}
    scout = make(48, 1, 28.0, 52.0)
    assert depot not in {unit.tag for unit in units(observe(session))}
    told, _ = kill(scout)
    assert told == [scout]


def test_data_holds_the_unit_types_that_a_map_brings_along():
    """Clients look a unit's type up in the game's data; SMAC's agents have types of their own."""
    session = play("2s3z")
    data = ask(session, data=sc2api_pb2.RequestData(unit_type_id=True)).data.units
    for unit in units(observe(session)):
        assert data[unit.unit_type].unit_id == unit.unit_type and data[unit.unit_type].available
    own = {data[unit.unit_type].name for unit in units(observe(session), raw_pb2.Self)}
    assert own == {"Stalker", "Zealot"}


def test_smac_finds_its_own_unit_types_in_order():
    """SMAC takes the lowest type id of the own units for the first type by name (here: Stalker, then Zealot)."""
    session = play("2s3z")
    own = units(observe(session), raw_pb2.Self)
    lowest = min(unit.unit_type for unit in own)
    assert [unit.unit_type - lowest for unit in own].count(0) == 2
    assert {unit.unit_type for unit in units(observe(session), raw_pb2.Enemy)} == {73, 74}


def test_debug_creates_kills_and_sets_values():
    session = play("Flat64", computer=1)
    step(session, 2)
    make = debug_pb2.DebugCommand(create_unit=debug_pb2.DebugCreateUnit(unit_type=48, owner=1, quantity=5))
    make.create_unit.pos.x = make.create_unit.pos.y = 32.0
    ask(session, debug=sc2api_pb2.RequestDebug(debug=[make]))
    step(session, 2)
    marines = [unit for unit in units(observe(session)) if unit.unit_type == 48]
    assert len(marines) == 5
    change = debug_pb2.DebugCommand(
        unit_value=debug_pb2.DebugSetUnitValue(
            unit_value=debug_pb2.DebugSetUnitValue.Life, value=5, unit_tag=marines[0].tag
        )
    )
    kill = debug_pb2.DebugCommand(kill_unit=debug_pb2.DebugKillUnit(tag=[marines[1].tag]))
    ask(session, debug=sc2api_pb2.RequestDebug(debug=[change, kill]))
    step(session, 2)
    seen = observe(session)
    left = {unit.tag: unit for unit in units(seen) if unit.unit_type == 48}
    assert len(left) == 4 and left[marines[0].tag].health == 5
    bad = debug_pb2.DebugCommand(create_unit=debug_pb2.DebugCreateUnit(unit_type=9999, owner=1))
    assert "cannot play unit type 9999" in ask(session, debug=sc2api_pb2.RequestDebug(debug=[bad])).error[0]
    upgrade = debug_pb2.DebugCommand(game_state=debug_pb2.upgrade)
    assert "not supported" in ask(session, debug=sc2api_pb2.RequestDebug(debug=[upgrade])).error[0]


def test_queries():
    session = play("Simple64", computer=1)
    own = units(observe(session), raw_pb2.Self)
    request = query_pb2.RequestQuery()
    request.abilities.add(unit_tag=own[-1].tag)
    way = request.pathing.add(unit_tag=own[-1].tag)
    way.end_pos.x, way.end_pos.y = 52.0, 12.0
    depots = ((20.0, 46.0), (8.0, 57.0), (200.0, 9.0))
    for x, y in depots:
        placement = request.placements.add(ability_id=319)
        placement.target_pos.x, placement.target_pos.y = x, y
    request.placements.add(ability_id=16)
    answer = ask(session, query=request).query
    assert {16, 23} <= {ability.ability_id for ability in answer.abilities[0].abilities}
    start = own[-1].pos
    assert answer.pathing[0].distance > np.hypot(start.x - 52.0, start.y - 12.0)  # walls are in the way
    # Free ground, a mineral field, off the map, and no building at all.
    invalid = error_pb2.CantBuildLocationInvalid
    results = [placement.result for placement in answer.placements]
    assert results == [error_pb2.Success, invalid, invalid, error_pb2.NotSupported]


@pytest.mark.parametrize("restarts", (0, 1))
def test_replays_play_the_same_game_again(restarts):
    session = play("DefeatRoaches", computer=0)
    for _ in range(restarts):
        step(session, 30)
        ask(session, restart_game=sc2api_pb2.RequestRestartGame())
    tags = [unit.tag for unit in units(observe(session), raw_pb2.Self)]
    command(session, 23, tags, point=(33.0, 28.0))
    states = []
    for _ in range(10):
        step(session, 20)
        states.append([unit.SerializeToString() for unit in units(observe(session))])
    data = ask(session, save_replay=sc2api_pb2.RequestSaveReplay()).save_replay.data
    info = ask(session, replay_info=sc2api_pb2.RequestReplayInfo(replay_data=data)).replay_info
    assert info.game_duration_loops == 200 and len(info.player_info) == 1
    start = sc2api_pb2.RequestStartReplay(replay_data=data, options=RAW, observed_player_id=1)
    assert not ask(session, start_replay=start).start_replay.HasField("error")
    for state in states:
        step(session, 20)
        assert [unit.SerializeToString() for unit in units(observe(session))] == state
    assert observe(session).player_result
    assert ask(session, save_replay=sc2api_pb2.RequestSaveReplay()).error
    damaged = ask(session, replay_info=sc2api_pb2.RequestReplayInfo(replay_data=data[:-9])).replay_info
    assert damaged.error == sc2api_pb2.ResponseReplayInfo.InvalidReplayData


def test_spells_show_and_do_what_they_do():
    session = play("Flat64", computer=1)
    world = session.game.world
    control = debug_pb2.DebugCommand(game_state=debug_pb2.control_enemy)
    made = [
        debug_pb2.DebugCommand(create_unit=debug_pb2.DebugCreateUnit(unit_type=n, owner=o))
        for n, o in ((77, 1), (74, 1), (78, 2), (48, 2))
    ]  # Sentry, Stalker; Phoenix, Marine
    for number, make in enumerate(made):
        make.create_unit.pos.x, make.create_unit.pos.y = 30.0, 34.0 - 2 * number
    ask(session, debug=sc2api_pb2.RequestDebug(debug=[control, *made]))
    step(session, 1)
    by_type = {unit.unit_type: unit for unit in units(observe(session))}
    sentry, stalker, phoenix, marine = (by_type[n] for n in (77, 74, 78, 48))
    assert list(command(session, 146, [sentry.tag])) == [error_pb2.NotEnoughEnergy]
    for unit in (sentry, phoenix):
        world.state.f[0, st.F_ENERGY, world.slot(unit.tag)] = 200
    shields = float(world.state.f[0, st.F_SHIELD, world.slot(stalker.tag)])
    assert list(command(session, 76, [sentry.tag])) == [1]
    assert list(command(session, 146, [sentry.tag])) == [1]
    step(session, 2)
    seen = observe(session)
    assert [(effect.effect_id, effect.owner) for effect in seen.observation.raw_data.effects] == [(2, 1)]
    archon = next(unit for unit in units(seen) if unit.unit_type == 141)
    assert archon.is_hallucination and archon.health_max == 10
    assert not world.spells.update_marks(world)[world.slot(archon.tag)][2] & 4  # the enemy takes it for an Archon
    # A Marine does 6 less 2 under the shield, less the Stalker's armor only where its shields are gone.
    assert list(command(session, 23, [marine.tag], target=stalker.tag)) == [1]
    lost = set()
    for _ in range(40):
        before = float(world.state.f[0, st.F_SHIELD, world.slot(stalker.tag)])
        step(session, 1)
        lost.add(round(before - float(world.state.f[0, st.F_SHIELD, world.slot(stalker.tag)]), 3))
    assert lost == {0.0, 4.0} and shields == 80
    assert list(command(session, 173, [phoenix.tag], target=archon.tag)) == [error_pb2.CantTargetThatUnit]
    assert list(command(session, 173, [phoenix.tag], target=stalker.tag)) == [1]
    step(session, 4)
    lifted = {unit.tag: unit for unit in units(observe(session))}
    assert lifted[stalker.tag].is_flying and 5 in lifted[stalker.tag].buff_ids
    step(session, 170)
    down = {unit.tag: unit for unit in units(observe(session))}
    assert stalker.tag not in down or not down[stalker.tag].is_flying


def test_quick_save_and_load():
    session = play()
    step(session, 40)
    ask(session, quick_save=sc2api_pb2.RequestQuickSave())
    saved = observe(session)
    step(session, 60)
    assert units(observe(session)) != units(saved)
    ask(session, quick_load=sc2api_pb2.RequestQuickLoad())
    assert units(observe(session)) == units(saved)
    assert observe(session).observation.game_loop == 40


def test_two_players_step_together_and_leaving_loses():
    host, guest = Session(), Session()
    create(host, "3m", players=2)
    results = {}
    joining = threading.Thread(target=lambda: results.update(host=join(host, port=15000)))
    joining.start()
    results["guest"] = join(guest, port=15000)
    joining.join()
    assert (results["host"].join_game.player_id, results["guest"].join_game.player_id) == (1, 2)
    for loop in (8, 16):
        stepping = threading.Thread(target=lambda: step(host, 8))
        stepping.start()
        assert step(guest, 8).step.simulation_loop == loop
        stepping.join()
    own = units(observe(guest), raw_pb2.Self)
    assert len(own) == 3 and all(unit.owner == 2 for unit in own)
    ask(host, leave_game=sc2api_pb2.RequestLeaveGame())
    outcome = {result.player_id: result.result for result in observe(guest).player_result}
    assert outcome == {1: sc2api_pb2.Defeat, 2: sc2api_pb2.Victory}


def test_fog_hides_on_melee_maps_and_disable_fog_lifts_it():
    session = play("Flat64", computer=1)
    assert not units(observe(session), raw_pb2.Enemy)
    hidden = units(observe(session, disable_fog=True), raw_pb2.Enemy)
    assert hidden and all(unit.display_type == raw_pb2.Hidden for unit in hidden)


def test_feature_layers_have_the_sizes_asked_for():
    options = sc2api_pb2.InterfaceOptions(raw=True)
    options.feature_layer.width = 24
    options.feature_layer.resolution.x, options.feature_layer.resolution.y = 84, 84
    options.feature_layer.minimap_resolution.x, options.feature_layer.minimap_resolution.y = 64, 64
    session = play("MoveToBeacon", computer=0, options=options)
    seen = observe(session)
    layers = seen.observation.feature_layer_data.renders
    relative = np.frombuffer(layers.player_relative.data, np.uint8).reshape(84, 84)
    beacon = units(seen, raw_pb2.Neutral)[0]
    assert {1, 3} <= set(np.unique(relative))
    # The middle of the beacon's pixels is where the beacon is: 24 world units over 84 pixels, y down.
    ys, xs = np.nonzero(relative == 3)
    assert xs.mean() == pytest.approx((beacon.pos.x - 21.0) * 3.5 - 0.5, abs=1.0)
    assert ys.mean() == pytest.approx((40.0 - beacon.pos.y) * 3.5 - 0.5, abs=1.0)
    marine = units(seen, raw_pb2.Self)[0]
    action = sc2api_pb2.Action()
    pick = action.action_feature_layer.unit_selection_point
    pick.type = 1
    pick.selection_screen_coord.x = round((marine.pos.x - 21.0) * 3.5 - 0.5)
    pick.selection_screen_coord.y = round((40.0 - marine.pos.y) * 3.5 - 0.5)
    ask(session, action=sc2api_pb2.RequestAction(actions=[action]))
    step(session, 1)
    assert units(observe(session), raw_pb2.Self)[0].is_selected
    assert observe(session).observation.ui_data.single.unit.unit_type == 48


def test_maps_by_name_and_as_scenario_text(tmp_path):
    assert len(available_maps()) > 40
    text = (
        'rules = "battle"\nmap_size = [16, 16]\nstep_limit = 10\n'
        '[[team]]\nunits = [{ type = "Marine", count = 2, at = [4, 8] }]\n'
        '[[team]]\nunits = [{ type = "Zealot", count = 1, at = [12, 8] }]\n'
    )
    game_map = find_map("mine.SC2Map", text.encode())
    assert game_map.scenario is not None and game_map.spec.width == 16
    with pytest.raises(MapError, match="neither an MPQ archive"):
        find_map("mine.SC2Map", b"\xff\xfe\x00")
    with pytest.raises(MapError, match="cannot be read"):
        find_map("mine.SC2Map", b"MPQ\x1b" + bytes(200))


def test_the_minigame_map_files_of_pysc2_can_be_read():
    from pathlib import Path

    import pysc2_evolved

    from envs.protocol.maps import read_sc2map

    folder = Path(pysc2_evolved.__file__).parent / "maps" / "mini_games"
    read = {path.stem: read_sc2map(path.name, path.read_bytes()) for path in folder.glob("*.SC2Map")}
    assert len(read) == 7
    assert all(entry.spec.width == 64 and entry.playable == (10.0, 8.0, 54.0, 44.0) for entry in read.values())
    assert sum(unit.name == "MineralField" for unit in read["CollectMineralsAndGas"].placed_units) == 16
    assert all(entry.spec.pathable.all() for entry in read.values())


def test_cliffs_of_a_map_file_are_walls_and_ramps_are_not():
    """Corners of a low ground, a ramp that climbs two units over four cells, a high ground, and a cliff back down."""
    from envs.protocol.maps import _read_ground

    profile = [8.0] * 4 + [8.5, 9.0, 9.5] + [10.0] * 4 + [8.0] * 3
    corners = np.zeros((9, 14, 2), "<u2")
    corners[..., 0] = np.array(profile) * 256
    pathable, terrain = _read_ground(b"SMAP" + bytes(44) + corners.tobytes(), 13, 8)
    walls = np.zeros((8, 13), bool)
    walls[:, 10] = True
    assert np.array_equal(pathable, ~walls)
    assert terrain[0].tolist() == [8, 8, 8, 8.25, 8.75, 9.25, 9.75, 10, 10, 10, 9, 8, 8]
    assert _read_ground(b"", 13, 8) == (None, None)


def test_bad_bytes_never_stop_a_session():
    """1,000 random, truncated and misplaced messages; `-m slow` has 10,000 over a websocket."""
    fuzz(Session(), cases=1000, seed=5)


def wild_requests(rng):
    """Well-formed requests with numbers that make no sense."""
    numbers = (0.0, -1.0, 33.0, 1e30, float("inf"), float("nan"))
    for _ in range(40):
        x, y = rng.choice(numbers, 2)
        tag = int(rng.integers(1, 40)) << 18 | int(rng.integers(0, 40))
        request = sc2api_pb2.Request(id=1)
        raw = request.action.actions.add().action_raw.unit_command
        raw.unit_tags.extend([1, tag, 2**63])
        raw.ability_id = int(rng.choice([1, 16, 23, 295, 319, 321, 524, 560, 195, 3659, 3671, 146, -7]))
        raw.target_world_space_pos.x, raw.target_world_space_pos.y = x, y
        request.action.actions.add().action_raw.camera_move.center_world_space.x = x
        spatial = request.action.actions.add().action_feature_layer.unit_command
        spatial.target_screen_coord.x, spatial.ability_id = int(rng.integers(-99, 999)), raw.ability_id
        request.action.actions.add().action_ui.production_panel.unit_index = int(rng.integers(-3, 9))
        yield request
        request = sc2api_pb2.Request()
        request.query.pathing.add(unit_tag=tag).end_pos.x = x
        request.query.abilities.add(unit_tag=tag)
        request.query.placements.add(ability_id=319).target_pos.y = y
        yield request
        request = sc2api_pb2.Request()
        made = request.debug.debug.add().create_unit
        made.unit_type, made.owner, made.quantity = (int(n) for n in rng.choice([0, 1, 16, 45, 48, 341, 2**20], 3))
        made.pos.x, made.pos.y = x, y
        request.debug.debug.add().unit_value.value = x
        request.debug.debug.add().game_state = int(rng.integers(1, 13))
        yield request
        request = sc2api_pb2.Request()
        request.step.count = int(rng.choice([0, 1, 8, 2**31]))
        yield request


def fuzz(session, cases, seed, send=None):
    """Sends bad messages; every one is answered, and afterwards the session plays a game."""
    rng = np.random.default_rng(seed)
    send = send or session.handle
    names = [field.name for field in sc2api_pb2.Request.DESCRIPTOR.fields if field.message_type]
    names = [name for name in names if name != "quit"]
    samples = [request.SerializeToString() for request in wild_requests(rng)]
    for case in range(cases):
        kind = case % 4
        if kind == 0:
            data = rng.bytes(int(rng.integers(0, 200)))
        elif kind == 1:
            data = samples[int(rng.integers(len(samples)))]
            data = data[: int(rng.integers(0, len(data) + 1))]
        elif kind == 2:
            request = sc2api_pb2.Request(id=case)
            getattr(request, names[int(rng.integers(len(names)))]).SetInParent()
            data = request.SerializeToString()
        else:
            base = bytearray(samples[int(rng.integers(len(samples)))])
            for _ in range(case // 4 % 4):
                base[int(rng.integers(len(base)))] = int(rng.integers(256))
            data = bytes(base)
        answer = sc2api_pb2.Response.FromString(send(data))
        assert answer.HasField("status"), f"seed {seed}, case {case}"
        if case % 50 == 0:
            request = sc2api_pb2.RequestCreateGame()
            request.local_map.map_path = ("3m", "BuildMarines")[case // 50 % 2]
            request.player_setup.add(type=1)
            send(sc2api_pb2.Request(create_game=request).SerializeToString())
            joining = sc2api_pb2.Request(join_game=sc2api_pb2.RequestJoinGame(race=1, options=RAW))
            answer = sc2api_pb2.Response.FromString(send(joining.SerializeToString()))
            assert answer.status == IN_GAME, f"seed {seed}, case {case}: {answer}"
