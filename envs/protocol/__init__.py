"""The simulator behind StarCraft II's client protocol.

`handler.Session` answers the requests of one client ("one game process"); `server` carries them over websockets and
`memory` inside the process. `world` is a game on the engine, `game` lets clients play it, `maps` finds it by name.
"""
