"""`Session`: one client's "game process" behind the protocol, bytes of a Request in, bytes of a Response out."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from s2clientprotocol import sc2api_pb2

from envs.protocol.catalogue import game_data, map_units
from envs.protocol.game import Game, GameError
from envs.protocol.link import GuestLink, HostLink, LinkError
from envs.protocol.maps import MAX_MAP_BYTES, MapError, available_maps, find_map
from envs.protocol.observation import start_raw
from envs.protocol.player import PlayerSession
from envs.protocol.queries import answer
from envs.protocol.replay import Replay, ReplayError
from envs.protocol.wire import header

log = logging.getLogger(__name__)

# The answer to `ping`. The build is the newest with a Linux package; the version says that this is the simulator.
GAME_VERSION = "4.10.0.75689"
BASE_BUILD = 75689
DATA_VERSION = "B89B5D6FA7CBF6452E721311BFBC6CB2"
MAX_STEP = 1 << 19  # as the game: no game is longer than 2^19 loops
LAUNCHED, INIT_GAME, IN_GAME, IN_REPLAY, ENDED, QUIT = 1, 2, 3, 4, 5, 6
MAX_REQUEST_BYTES = MAX_MAP_BYTES + (1 << 20)
JOIN_SECONDS = 120.0

_ANY = (LAUNCHED, INIT_GAME, IN_GAME, IN_REPLAY, ENDED)
_GAME = (IN_GAME, IN_REPLAY, ENDED)
# In which states a request is granted.
ALLOWED: dict[str, tuple[int, ...]] = {
    "ping": _ANY,
    "quit": _ANY,
    "available_maps": _ANY,
    "data": _ANY,
    "save_map": _ANY,
    "replay_info": _ANY,
    "create_game": _ANY,
    "join_game": (LAUNCHED, INIT_GAME),
    "start_replay": (LAUNCHED, IN_GAME, IN_REPLAY, ENDED),
    "restart_game": (IN_GAME, ENDED),
    "leave_game": _GAME,
    "game_info": _GAME,
    "observation": _GAME,
    "action": (IN_GAME,),
    "obs_action": (IN_GAME, IN_REPLAY),
    "step": (IN_GAME, IN_REPLAY),
    "query": (IN_GAME, IN_REPLAY),
    "save_replay": _GAME,
    "quick_save": (IN_GAME,),
    "quick_load": (IN_GAME, ENDED),
    "map_command": (IN_GAME,),
    "debug": (IN_GAME,),
}
STATES = {LAUNCHED: "launched", INIT_GAME: "init_game", IN_GAME: "in_game", IN_REPLAY: "in_replay", ENDED: "ended"}


class Lobby:
    """Games of this process that wait for players of other sessions, by the ports that the clients agreed on."""

    def __init__(self) -> None:
        self._games: dict[int, Game] = {}
        self._lock = threading.Lock()

    def offer(self, port: int, game: Game) -> None:
        with self._lock:
            self._games[port] = game

    def find(self, port: int) -> Game | None:
        """The game offered under a port that still has room for a player."""
        with self._lock:
            game = self._games.get(port)
            if game is not None and (game.closed or game.world is not None):
                del self._games[port]
                return None
            return game

    def withdraw(self, game: Game) -> None:
        with self._lock:
            self._games = {port: other for port, other in self._games.items() if other is not game}


LOBBY = Lobby()


class RequestRefused(RuntimeError):
    """The request cannot be granted; the message becomes the response's `error`."""


class Session:
    """Answers one client, one request at a time; sessions may share a game from several threads."""

    def __init__(self, *, network: bool = False) -> None:
        """`network`: players of other processes may join this session's games through the ports of `join_game`."""
        self.network = network
        self.status = LAUNCHED
        self.game: Game | None = None
        self.player_session: PlayerSession | None = None
        self._options: sc2api_pb2.InterfaceOptions | None = None
        self._maps: dict[str, bytes] = {}
        self._saved: dict[str, Any] | None = None
        self._host: HostLink | None = None
        self._guest: GuestLink | None = None
        self._gone = False
        self._created: Game | None = None
        self._handlers: dict[str, Callable[[Any, sc2api_pb2.Response], Sequence[bytes] | None]] = {
            name: getattr(self, f"_{name}") for name in ALLOWED
        }

    @classmethod
    def _at(cls, game: Game) -> Session:
        """A session whose client joins `game`."""
        session = cls()
        session.game, session.status = game, INIT_GAME
        return session

    # --- the entrance ---

    def handle(self, data: bytes) -> bytes:
        """Answers the bytes of a Request with the bytes of a Response; whatever comes, there is an answer."""
        response = sc2api_pb2.Response()
        tail: Sequence[bytes] = ()
        try:
            if len(data) > MAX_REQUEST_BYTES:
                raise RequestRefused(f"the request has {len(data)} bytes; at most {MAX_REQUEST_BYTES} are read")
            request = sc2api_pb2.Request.FromString(data)
            if request.HasField("id"):
                response.id = request.id
            name = request.WhichOneof("request")
            if name is None:
                raise RequestRefused("the request is empty or of a kind that this server does not know")
            if self._guest is not None:
                return self._forward(name, data)
            self._check_state(name)
            tail = self._handlers[name](getattr(request, name), response) or ()
        except DecodeError as error:
            response.error.append(f"the request cannot be parsed as a protobuf Request: {error}")
        except (RequestRefused, GameError) as error:
            response.error.append(str(error))
        except Exception as error:  # a server answers, whatever happened
            log.exception("request failed")
            response.error.append(f"internal error: {error!r}")
        self._notice_end()
        response.status = self.status  # type: ignore[assignment]
        return b"".join((response.SerializeToString(), *tail))

    def disconnect(self) -> None:
        """The client is gone: a game under way is left, one that is set up still waits for a player."""
        self._gone = False
        if self._guest is not None:
            self._guest.close()
            self._guest = None
            self.status = LAUNCHED
        elif self.status in (IN_GAME, IN_REPLAY, ENDED):
            self._abandon()
            self.status = LAUNCHED

    def interrupt(self) -> None:
        """Wakes a request that waits for other clients: this client is gone. May be called from another thread."""
        self._gone = True
        game = self.game
        if game is not None:
            with game.changed:
                if self.player_session is not None:
                    game.leave(self.player_session)
                elif self.status in (LAUNCHED, INIT_GAME):
                    game.close()
        if self._guest is not None:
            self._guest.close()

    def close(self) -> None:
        """Ends everything; the session answers no more."""
        self.disconnect()
        self._abandon()
        self.status = QUIT

    @property
    def may_block(self) -> bool:
        """Whether a request may wait for other clients or for the clock."""
        game = self.game
        return (
            self._guest is not None
            or self.status in (LAUNCHED, INIT_GAME)
            or (game is not None and (game.realtime or len(game.participants) > 1))
        )

    def _check_state(self, name: str) -> None:
        self._notice_end()
        if self.status in ALLOWED[name]:
            return
        if self.status == ENDED and name in ("step", "action", "query", "debug"):
            raise RequestRefused("Game has already ended")
        needed = ", ".join(STATES[state] for state in ALLOWED[name])
        raise RequestRefused(f"{name} is not possible in the state {STATES.get(self.status, 'quit')}; needs {needed}")

    def _notice_end(self) -> None:
        world = self.game.world if self.game is not None else None
        if self.status in (IN_GAME, IN_REPLAY) and world is not None and world.outcome is not None:
            self.status = ENDED

    def _abandon(self) -> None:
        if self.game is not None:
            if self.player_session is not None:
                self.game.leave(self.player_session)
            else:
                self.game.close()
            LOBBY.withdraw(self.game)
        if self._host is not None:
            self._host.close()
        self.game = self.player_session = self._host = self._saved = self._created = None

    def _playing(self) -> tuple[Game, PlayerSession]:
        assert self.game is not None and self.player_session is not None
        return self.game, self.player_session

    # --- setting up ---

    def _ping(self, request: sc2api_pb2.RequestPing, response: sc2api_pb2.Response) -> None:
        ping = response.ping
        ping.game_version, ping.data_version = GAME_VERSION, DATA_VERSION
        ping.data_build = ping.base_build = BASE_BUILD

    def _quit(self, request: sc2api_pb2.RequestQuit, response: sc2api_pb2.Response) -> None:
        response.quit.SetInParent()
        self.close()

    def _available_maps(self, request: sc2api_pb2.RequestAvailableMaps, response: sc2api_pb2.Response) -> None:
        response.available_maps.local_map_paths.extend(available_maps())

    def _save_map(self, request: sc2api_pb2.RequestSaveMap, response: sc2api_pb2.Response) -> None:
        response.save_map.SetInParent()
        size = len(request.map_data) + sum(len(data) for path, data in self._maps.items() if path != request.map_path)
        if not request.map_path or size > MAX_MAP_BYTES:
            response.save_map.error = sc2api_pb2.ResponseSaveMap.InvalidMapData
        else:
            self._maps[request.map_path] = request.map_data

    def _create_game(self, request: sc2api_pb2.RequestCreateGame, response: sc2api_pb2.Response) -> None:
        result = response.create_game
        result.SetInParent()
        errors = sc2api_pb2.ResponseCreateGame

        def refuse(code: str, details: str) -> None:
            result.error = getattr(errors, code)
            result.error_details = details

        kind = request.WhichOneof("Map")
        if kind is None or (kind == "local_map" and not (request.local_map.map_path or request.local_map.map_data)):
            return refuse("MissingMap", "create_game names no map; set local_map.map_path")
        if not request.player_setup:
            return refuse("MissingPlayerSetup", "create_game has no player_setup")
        setups = [setup for setup in request.player_setup if setup.type != sc2api_pb2.Observer]
        if any(setup.type not in (1, 2, 3) for setup in request.player_setup) or not 1 <= len(setups) <= 2:
            return refuse("InvalidPlayerSetup", f"{len(setups)} players; expected 1 or 2 participants or computers")
        path = request.local_map.map_path if kind == "local_map" else request.battlenet_map_name
        data = (request.local_map.map_data or self._maps.get(path, b"")) if kind == "local_map" else b""
        try:
            game_map = find_map(path, data)
        except MapError as error:
            return refuse("InvalidMapName" if kind != "local_map" else error.code, str(error))
        if len(setups) > game_map.players:
            return refuse("InvalidPlayerSetup", f"{game_map.name} is for {game_map.players} player; got {len(setups)}")
        participants = sum(setup.type == sc2api_pb2.Participant for setup in setups)
        if game_map.scenario is not None and participants == 0:
            return refuse("InvalidPlayerSetup", f"{game_map.name} needs a participant")
        self._abandon()
        self.game = Game(
            game_map,
            setups,
            seed=request.random_seed if request.HasField("random_seed") else secrets.randbits(31),
            disable_fog=request.disable_fog,
            realtime=request.realtime,
            map_data=data,
        )
        self._created = self.game
        self.status = INIT_GAME
        return None

    def _join_game(self, request: sc2api_pb2.RequestJoinGame, response: sc2api_pb2.Response) -> None:
        if self.game is None and not request.HasField("server_ports"):
            raise RequestRefused("no game to join: create_game first, or give the ports of the host's game")
        result = response.join_game
        result.SetInParent()
        errors = sc2api_pb2.ResponseJoinGame
        if request.WhichOneof("participation") is None:
            result.error, result.error_details = errors.MissingParticipation, "join_game has no race or observed player"
            return
        if not request.HasField("options"):
            result.error, result.error_details = errors.MissingOptions, "join_game has no interface options"
            return
        problem = check_options(request.options)
        if problem:
            result.error, result.error_details = errors.FeatureUnsupported, problem
            return
        port = request.server_ports.game_port if request.HasField("server_ports") else 0
        game = self.game
        if game is None:
            if not port:
                raise RequestRefused("no game to join: create_game first, or give the ports of the host's game")
            game = self._find_game(request, port, response)
            if game is None:
                return
        elif port and len(game.participants) > 1:
            LOBBY.offer(port, game)
            if self.network:
                try:
                    self._host = HostLink(port, partial(Session._at, game), request.host_ip or "127.0.0.1")
                except LinkError as error:
                    result.error, result.error_details = errors.NetworkError, str(error)
                    return
        elif len(game.participants) > 1:
            result.error = errors.MissingPorts
            result.error_details = "a game of two participants is joined with server_ports and client_ports"
            return
        observe = request.HasField("observed_player_id")
        if observe and request.observed_player_id not in (0, *game.setups):
            result.error = errors.InvalidObservedPlayerId
            result.error_details = f"there is no player {request.observed_player_id}; 0 observes everybody"
            return
        self.game = game
        self.player_session = self._join(game, request, observe, host=self._created is game)
        self._options = self.player_session.options
        result.player_id = self.player_session.player
        self.status = IN_GAME

    def _join(self, game: Game, request: sc2api_pb2.RequestJoinGame, observe: bool, *, host: bool) -> PlayerSession:
        options = sc2api_pb2.InterfaceOptions()
        options.CopyFrom(request.options)
        try:
            return game.join(options, request.race, request.player_name[:32], observe=observe, host=host)
        except GameError:
            self._abandon()
            self.status = LAUNCHED
            raise

    def _find_game(self, request: sc2api_pb2.RequestJoinGame, port: int, response: sc2api_pb2.Response) -> Game | None:
        """The host's game: in this process, or, through a link, in another one."""
        deadline = time.monotonic() + JOIN_SECONDS
        while time.monotonic() < deadline and not self._gone:
            game = LOBBY.find(port)
            if game is not None:
                return game
            if self.network:
                try:
                    self._guest = GuestLink(port, request.host_ip or "127.0.0.1")
                except LinkError:
                    pass
                else:
                    wrapped = sc2api_pb2.Request(join_game=request)
                    answered = sc2api_pb2.Response.FromString(self._forward("join_game", wrapped.SerializeToString()))
                    response.join_game.CopyFrom(answered.join_game)
                    response.error.extend(answered.error)
                    if answered.status != IN_GAME:
                        self._leave_link()
                    return None
            time.sleep(0.02)
        raise RequestRefused(f"no host offers a game on port {port} within {JOIN_SECONDS:.0f} s")

    def _forward(self, name: str, data: bytes) -> bytes:
        """Sends a request on to the host's process."""
        assert self._guest is not None
        if name in ("ping", "available_maps", "save_map", "create_game", "quit"):
            if name == "create_game" or name == "quit":
                self._leave_link()
            guest, self._guest = self._guest, None
            try:
                return self.handle(data)
            finally:
                self._guest = self._guest or guest if self.status not in (QUIT, INIT_GAME) else self._guest
        try:
            answered = self._guest.request(data)
        except LinkError as error:
            self._leave_link()
            request = sc2api_pb2.Request.FromString(data)
            return sc2api_pb2.Response(
                id=request.id,
                error=[str(error)],
                status=self.status,  # type: ignore[arg-type]
            ).SerializeToString()
        self.status = sc2api_pb2.Response.FromString(answered).status or self.status
        if name == "leave_game":
            self._leave_link()
        return answered

    def _leave_link(self) -> None:
        if self._guest is not None:
            self._guest.close()
        self._guest = None
        self.status = LAUNCHED

    def _restart_game(self, request: sc2api_pb2.RequestRestartGame, response: sc2api_pb2.Response) -> None:
        game, _ = self._playing()
        response.restart_game.SetInParent()
        if len(game.participants) > 1:
            response.restart_game.error = sc2api_pb2.ResponseRestartGame.LaunchError
            response.restart_game.error_details = "a game of two participants is left and created anew, not restarted"
            return
        game.restart()
        self.status = IN_GAME

    def _leave_game(self, request: sc2api_pb2.RequestLeaveGame, response: sc2api_pb2.Response) -> None:
        response.leave_game.SetInParent()
        self._abandon()
        self.status = LAUNCHED

    # --- playing ---

    def _game_info(self, request: sc2api_pb2.RequestGameInfo, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        world = game.world
        assert world is not None
        info = response.game_info
        info.map_name = game.map.name
        info.local_map_path = game.map.path
        info.start_raw.CopyFrom(start_raw(world, session.player))
        info.options.CopyFrom(session.options)
        names = {other.player: other.name for other in game.sessions}
        for number, setup in game.setups.items():
            player = info.player_info.add(player_id=number, type=setup.type)
            player.race_requested = game.requested.get(number, 0) or 4  # type: ignore[assignment]
            if number == session.player or setup.type == sc2api_pb2.Computer or session.player == 0:
                player.race_actual = {"terran": 1, "zerg": 2, "protoss": 3}[  # type: ignore[assignment]
                    world.players[number].race
                ]
            if setup.type == sc2api_pb2.Computer:
                player.difficulty = setup.difficulty or sc2api_pb2.VeryEasy
                if setup.HasField("ai_build"):
                    player.ai_build = setup.ai_build
            player.player_name = names.get(number) or setup.player_name or f"player {number}"

    def _observation(self, request: sc2api_pb2.RequestObservation, response: sc2api_pb2.Response) -> Sequence[bytes]:
        game, session = self._playing()
        observation = game.observe(session, request.game_loop, request.disable_fog)
        return header(10, len(observation)), observation

    def _action(self, request: sc2api_pb2.RequestAction, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        response.action.SetInParent()
        if session.player == 0:
            raise RequestRefused("an observer cannot act; use obs_action")
        response.action.result.extend(game.act(session, request.actions))  # type: ignore[arg-type]

    def _obs_action(self, request: sc2api_pb2.RequestObserverAction, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        response.obs_action.SetInParent()
        if session.player and game.playing is None:
            raise RequestRefused("only observers and viewers of replays have obs_action; a player has action")
        for action in request.actions:
            name = action.WhichOneof("action")
            if name == "camera_move":
                session.camera = (action.camera_move.world_pos.x, action.camera_move.world_pos.y)
            elif name == "player_perspective":
                if action.player_perspective.player_id not in (0, *game.setups):
                    raise RequestRefused(f"there is no player {action.player_perspective.player_id}")
                session.player = action.player_perspective.player_id
            else:
                raise RequestRefused(f"obs_action {name or '(empty)'} is not supported by the simulator")

    def _step(self, request: sc2api_pb2.RequestStep, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        count = request.count if request.HasField("count") else 1
        if count > MAX_STEP:
            raise RequestRefused(f"step count {count} is more than {MAX_STEP}")
        response.step.simulation_loop = game.step(session, count)

    def _data(self, request: sc2api_pb2.RequestData, response: sc2api_pb2.Response) -> None:
        everything = game_data()
        response.data.SetInParent()
        for flag, name in (
            ("ability_id", "abilities"),
            ("unit_type_id", "units"),
            ("upgrade_id", "upgrades"),
            ("buff_id", "buffs"),
            ("effect_id", "effects"),
        ):
            if getattr(request, flag):
                getattr(response.data, name).extend(getattr(everything, name))
        if request.unit_type_id and self.game is not None and self.game.world is not None:
            response.data.units.extend(map_units(self.game.world))

    def _query(self, request: Any, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        with game.changed:
            assert game.world is not None
            try:
                response.query.CopyFrom(answer(game.world, session, request))
            except ValueError as error:
                raise RequestRefused(str(error)) from None

    def _debug(self, request: sc2api_pb2.RequestDebug, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        response.debug.SetInParent()
        problems = game.debug(session, request.debug)
        if problems:
            raise RequestRefused("; ".join(problems))

    def _map_command(self, request: sc2api_pb2.RequestMapCommand, response: sc2api_pb2.Response) -> None:
        response.map_command.error = sc2api_pb2.ResponseMapCommand.NoTriggerError
        response.map_command.error_details = f"the map has no trigger {request.trigger_cmd!r}"

    # --- saving and replaying ---

    def _quick_save(self, request: sc2api_pb2.RequestQuickSave, response: sc2api_pb2.Response) -> None:
        game, _ = self._playing()
        response.quick_save.SetInParent()
        if len(game.participants) > 1:
            raise RequestRefused("quick_save is for games with one participant")
        with game.changed:
            assert game.world is not None
            assert game.replay is not None
            self._saved = {"world": game.world.snapshot(), "actions": len(game.replay.actions)}

    def _quick_load(self, request: sc2api_pb2.RequestQuickLoad, response: sc2api_pb2.Response) -> None:
        game, session = self._playing()
        response.quick_load.SetInParent()
        if self._saved is None:
            raise RequestRefused("there is no quick_save to load")
        with game.changed:
            assert game.world is not None
            assert game.replay is not None
            game.world.restore(self._saved["world"])
            del game.replay.actions[self._saved["actions"] :]
            session.pending.clear()
            session.executed.clear()
        self.status = IN_GAME

    def _save_replay(self, request: sc2api_pb2.RequestSaveReplay, response: sc2api_pb2.Response) -> None:
        game, _ = self._playing()
        response.save_replay.data = game.save_replay()

    def _read_replay(self, request: Any, result: Any, errors: Any) -> Replay | None:
        data = request.replay_data
        if request.WhichOneof("replay") is None:
            result.error, result.error_details = errors.MissingReplay, "the request has no replay"
            return None
        if request.HasField("replay_path"):
            try:
                with open(request.replay_path, "rb") as file:
                    data = file.read(MAX_REQUEST_BYTES)
            except (OSError, ValueError) as error:
                result.error, result.error_details = errors.InvalidReplayPath, f"{request.replay_path!r}: {error}"
                return None
        try:
            return Replay.from_bytes(data)
        except ReplayError as error:
            result.error, result.error_details = errors.InvalidReplayData, str(error)
            return None

    def _replay_info(self, request: sc2api_pb2.RequestReplayInfo, response: sc2api_pb2.Response) -> None:
        info = response.replay_info
        info.SetInParent()
        replay = self._read_replay(request, info, sc2api_pb2.ResponseReplayInfo)
        if replay is None:
            return
        info.map_name = replay.map_path
        info.local_map_path = replay.map_path
        info.game_duration_loops = replay.loops
        info.game_duration_seconds = replay.loops / 22.4
        info.game_version, info.data_version = GAME_VERSION, DATA_VERSION
        info.data_build = info.base_build = BASE_BUILD
        for number, entry in replay.players.items():
            player = info.player_info.add()
            player.player_info.player_id = number
            player.player_info.type = 2 if entry["difficulty"] else 1  # type: ignore[assignment]
            player.player_info.player_name = replay.names.get(number, "")
            if number in replay.results:
                player.player_result.player_id = number
                player.player_result.result = replay.results[number]  # type: ignore[assignment]

    def _start_replay(self, request: sc2api_pb2.RequestStartReplay, response: sc2api_pb2.Response) -> None:
        result = response.start_replay
        result.SetInParent()
        errors = sc2api_pb2.ResponseStartReplay
        replay = self._read_replay(request, result, errors)
        if replay is None:
            return
        if not request.HasField("options"):
            result.error, result.error_details = errors.MissingOptions, "start_replay has no interface options"
            return
        problem = check_options(request.options)
        if problem:
            result.error, result.error_details = errors.LaunchError, problem
            return
        if request.observed_player_id not in (0, *replay.players):
            result.error = errors.InvalidObservedPlayerId
            result.error_details = f"the replay has no player {request.observed_player_id}"
            return
        options = sc2api_pb2.InterfaceOptions()
        options.CopyFrom(request.options)
        player = request.observed_player_id
        session = PlayerSession(player, options, revealed=request.disable_fog or player == 0)
        try:
            game = Game.from_replay(replay, session)
        except MapError as error:
            result.error, result.error_details = errors.InvalidMapData, str(error)
            return
        self._abandon()
        self.game, self.player_session, self._options = game, session, options
        self.status = IN_REPLAY


def check_options(options: sc2api_pb2.InterfaceOptions) -> str | None:
    """What is wrong with the interface options, None if nothing is."""
    for name in ("feature_layer", "render"):
        if not options.HasField(name):  # type: ignore[arg-type]
            continue
        setup = getattr(options, name)
        for kind in ("resolution", "minimap_resolution"):
            size = getattr(setup, kind)
            if not (1 <= size.x <= 256 * 2 and 1 <= size.y <= 256 * 2):
                return f"{name}.{kind} is {size.x} x {size.y}; expected 1 to 512 pixels a side"
        if not 0 <= setup.width <= 512:
            return f"{name}.width is {setup.width}; expected 0 to 512 world units"
    return None
