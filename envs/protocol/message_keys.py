"""Numbers of the protocol: values of its enumerations, and the keys of protobuf fields by message."""

from __future__ import annotations

import numpy as np

from envs.protocol.wire import BYTES, FLOAT, VARINT, key_of

# The protocol's enumerations.
VISIBLE, SNAPSHOT, HIDDEN = 1, 2, 3
SELF, NEUTRAL_ALLIANCE, ENEMY = 1, 3, 4
CLOAKED_UNKNOWN, CLOAKED, CLOAKED_DETECTED, NOT_CLOAKED, CLOAKED_ALLIED = 0, 1, 2, 3, 4
STIMPACK_MARINE, STIMPACK_MARAUDER, MARAUDER = 27, 24, 51

NOWHERE, NOT_BEGUN, HALF_WAY = np.float32(-1.0), np.float32(0.0), np.float32(0.5)

# Keys of protobuf fields, by message.
U_DISPLAY, U_ALLIANCE, U_TAG, U_TYPE, U_OWNER = (key_of(n, VARINT) for n in (1, 2, 3, 4, 5))
U_POS, U_ORDER = key_of(6, BYTES), key_of(22, BYTES)
U_FACING, U_RADIUS, U_BUILD_PROGRESS = (key_of(n, FLOAT) for n in (7, 8, 9))
U_CLOAK, U_SELECTED, U_ON_SCREEN, U_BLIP = (key_of(n, VARINT) for n in (10, 11, 12, 13))
U_HEALTH, U_HEALTH_MAX, U_SHIELD, U_ENERGY = (key_of(n, FLOAT) for n in (14, 15, 16, 17))
U_MINERALS, U_VESPENE, U_FLYING, U_BURROWED = (key_of(n, VARINT) for n in (18, 19, 20, 21))
U_BUFF, U_ASSIGNED, U_IDEAL, U_TARGET, U_POWERED = (key_of(n, VARINT) for n in (27, 28, 29, 34, 35))
U_COOLDOWN, U_DETECTION, U_SHIELD_MAX, U_ENERGY_MAX = (key_of(n, FLOAT) for n in (30, 31, 36, 37))
U_HALLUCINATION, U_ACTIVE = key_of(38, VARINT), key_of(39, VARINT)
P_X, P_Y, P_Z = (key_of(n, FLOAT) for n in (1, 2, 3))
O_ABILITY, O_POINT, O_TAG, O_PROGRESS = key_of(1, VARINT), key_of(2, BYTES), key_of(3, VARINT), key_of(4, FLOAT)
RAW_PLAYER, RAW_UNIT, RAW_MAP = (key_of(n, BYTES) for n in (1, 2, 3))
CAMERA, VISIBILITY, DATA = key_of(2, BYTES), key_of(1, BYTES), key_of(3, BYTES)
OBS_COMMON, OBS_SCORE, OBS_RAW, OBS_LOOP = key_of(1, BYTES), key_of(4, BYTES), key_of(5, BYTES), key_of(9, VARINT)
RESPONSE_OBSERVATION = key_of(3, BYTES)
SCORE_TYPE, SCORE_VALUE, SCORE_DETAILS = key_of(6, VARINT), key_of(7, VARINT), key_of(8, BYTES)
(
    D_IDLE_PRODUCTION,
    D_IDLE_WORKERS,
    D_VALUE_UNITS,
    D_VALUE_STRUCTURES,
) = (key_of(n, FLOAT) for n in (1, 2, 3, 4))
D_COLLECTED_MINERALS, D_COLLECTED_VESPENE, D_RATE_MINERALS, D_RATE_VESPENE = (key_of(n, FLOAT) for n in (7, 8, 9, 10))
D_SPENT_MINERALS, D_SPENT_VESPENE = key_of(11, FLOAT), key_of(12, FLOAT)
D_FOOD_USED, D_USED_MINERALS, D_USED_VESPENE = (key_of(n, BYTES) for n in (13, 20, 21))
C_ARMY = key_of(2, FLOAT)  # economy and technology follow
C_STEP = key_of(3, FLOAT) - C_ARMY
(
    PC_ID,
    PC_MINERALS,
    PC_VESPENE,
    PC_FOOD_CAP,
    PC_FOOD_USED,
    PC_FOOD_ARMY,
    PC_FOOD_WORKERS,
    PC_IDLE_WORKERS,
    PC_ARMY,
) = (key_of(n, VARINT) for n in range(1, 10))
