"""Body plans of robots, vehicles and plants; they look along −Y, Z is up."""

from mvtokenflow.datasets.toy4d.build import (
    CREAM,
    GOLD,
    INK,
    MAIN,
    RUBBER,
    STEEL,
    Builder,
    Draw,
    Palette,
    Skin,
    Vector,
    X,
    Y,
    Z,
    band,
    blend,
    body_skin,
    eye,
    eyes,
    on_ellipsoid,
    panel,
    plain,
    split,
)
from mvtokenflow.datasets.toy4d.shading import CHECKS, GRADIENT, STRIPES, WHEEL

POT = (MAIN["orange"], MAIN["blue"], MAIN["teal"], MAIN["red"], MAIN["grey"], MAIN["brown"])
LEAF = ((0.36, 0.60, 0.33), (0.47, 0.66, 0.32), (0.27, 0.55, 0.40))


def robot(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build two legs, two arms, a head with eyes and an antenna; it marches, or waves with one arm."""
    adjective, coat = body_skin(draw, palette, along=2)
    width, depth, height = draw.uniform(0.38, 0.48), draw.uniform(0.28, 0.36), draw.uniform(0.38, 0.46)
    leg = draw.uniform(0.34, 0.46)
    phase = draw.uniform(0, 1)
    body = build.bone(0, (0, 0, leg + height + 0.12), slide=(0.0, 0.0, 0.025), slide_phase=phase, cycles=2)
    shape = draw.choice(("box", "barrel", "egg"))
    if shape == "box":
        build.box(body, (0, 0, 0), (width, depth, height), coat)
    elif shape == "barrel":
        build.frustum(body, (0, 0, -height), (0, 0, height), width * 0.86, width, coat)
    else:
        build.ellipsoid(body, (0, 0, 0), (width, depth * 1.15, height * 1.12), coat)
    front = {"box": depth, "barrel": width * 0.92, "egg": depth * 1.13}[shape]
    plate = Skin(palette.light)
    build.box(body, (0, -front, 0.02), (width * 0.48, 0.045, height * 0.42), plate)
    for k in (-1.0, 0.0, 1.0):
        button = (palette.accent, palette.dark, GOLD)[int(k) + 1]
        build.ellipsoid(body, (k * width * 0.28, -front - 0.04, 0.02), (0.05, 0.03, 0.05), plain(button))

    joint_color = draw.choice((STEEL, palette.dark, RUBBER))
    stride = draw.uniform(0.04, 0.065)
    for side in (-1.0, 1.0):
        beat = phase + (0.25 + 0.25 * side)
        hip = build.bone(body, (side * width * 0.50, 0, -height * 0.85), swing=stride, phase=beat)
        build.capsule(hip, (0, 0, 0), (0, 0, -leg), 0.115, plain(joint_color))
        ankle = build.bone(hip, (0, 0, -leg), swing=-stride, phase=beat)
        build.box(ankle, (0, -0.06, -0.04), (0.16, 0.24, 0.09), plain(palette.main))
    _arms(build, draw, palette, body, (width, height), joint_color, stride, phase)
    _robot_head(build, draw, palette, body, height)
    return f"a {adjective} {palette.name} robot toy"


def _arms(
    build: Builder,
    draw: Draw,
    palette: Palette,
    body: int,
    size: tuple[float, float],
    rod: tuple[float, float, float],
    stride: float,
    phase: float,
) -> None:
    width, height = size
    waving = draw.choice((-1.0, 1.0, 0.0))
    upper, fore = draw.uniform(0.30, 0.36), draw.uniform(0.26, 0.32)
    for side in (-1.0, 1.0):
        at: Vector = (side * (width + 0.07), 0, height * 0.62)
        build.ellipsoid(body, at, (0.14, 0.14, 0.14), plain(palette.dark))
        if side == waving:  # raised sideways and swung about Y
            bias = -side * draw.uniform(0.30, 0.34)
            shoulder = build.bone(body, at, axis=Y, swing=0.035, phase=phase, bias=bias)
            elbow = build.bone(shoulder, (0, 0, -upper), axis=Y, swing=0.06, phase=phase, bias=-side * 0.07)
        else:  # hanging a little off the body, swung about X against the leg
            beat = phase + (0.75 + 0.25 * side)
            base = build.bone(body, at, axis=Y, bias=-side * 0.045)
            shoulder = build.bone(base, (0, 0, 0), swing=stride * 1.1, phase=beat)
            elbow = build.bone(shoulder, (0, 0, -upper), swing=0.03, phase=beat, bias=-0.06)
        build.capsule(shoulder, (0, 0, 0), (0, 0, -upper), 0.085, plain(rod))
        build.frustum(elbow, (0, 0, 0.03), (0, 0, -fore), 0.09, 0.125, plain(palette.main))
        build.ellipsoid(elbow, (0, 0, -fore - 0.04), (0.125, 0.125, 0.125), plain(palette.accent))


def _robot_head(build: Builder, draw: Draw, palette: Palette, body: int, height: float) -> None:
    neck = build.bone(
        body,
        (0, 0, height),
        axis=draw.choice((Z, Z, Y)),
        swing=draw.uniform(0.03, 0.06),
        phase=draw.uniform(0, 1),
    )
    build.frustum(neck, (0, 0, -0.05), (0, 0, 0.14), 0.15, 0.15, plain(STEEL))
    wide, tall = draw.uniform(0.33, 0.40), draw.uniform(0.27, 0.33)
    middle = 0.10 + tall
    shape = draw.choice(("box", "dome", "can"))
    face = draw.choice((palette.main, palette.light))
    if shape == "box":
        front = wide * 0.82
        build.box(neck, (0, 0, middle), (wide, front, tall), panel(face, INK, 1, -1.0, 0.62, 0.80))
    elif shape == "dome":
        front = wide * 0.90
        build.ellipsoid(neck, (0, 0, middle), (wide, wide, tall * 1.15), band(face, INK, 2, 0.05, 0.40))
    else:
        front = wide * 0.92
        skin = band(face, INK, 2, 0.0, 0.55)
        build.frustum(neck, (0, 0, middle - tall), (0, 0, middle + tall), wide, wide, skin)
    glow = draw.choice((CREAM, MAIN["yellow"], blend(MAIN["teal"], CREAM, 0.5)))
    for side in (-1.0, 1.0):
        build.ellipsoid(neck, (side * wide * 0.40, -front, middle + 0.03), (0.095, 0.05, 0.105), plain(glow))
        ear = side * (wide + 0.01)
        build.frustum(
            neck,
            (ear - side * 0.06, 0, middle),
            (ear + side * 0.07, 0, middle),
            0.12,
            0.09,
            plain(palette.dark),
        )
    top = middle + tall
    whip = build.bone(neck, (0, 0, top), axis=Y, swing=0.035, cycles=2, phase=draw.uniform(0, 1))
    build.capsule(whip, (0, 0, -0.04), (0, 0, 0.20), 0.03, plain(STEEL))
    build.ellipsoid(whip, (0, 0, 0.24), (0.085, 0.085, 0.085), plain(palette.accent))


def vehicle(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a toy car on four turning wheels: cab and load, roof and siren, or boiler and chimney."""
    adjective, coat = body_skin(draw, palette)
    width, length, height = draw.uniform(0.42, 0.50), draw.uniform(0.66, 0.78), draw.uniform(0.17, 0.22)
    radius = draw.uniform(0.23, 0.29)
    phase = draw.uniform(0, 1)
    chassis = build.bone(
        0, (0, 0, radius + height * 0.9), swing=0.008, phase=phase, cycles=2, slide=(0.0, 0.0, 0.02)
    )
    build.box(chassis, (0, 0, 0), (width, length, height), coat)
    rim = draw.choice((palette.accent, STEEL, palette.light))
    tyre = Skin(RUBBER, rim, blend(rim, INK, 0.45), pattern=WHEEL, args=(0.62, 0.14, 0.0, 0.0))
    for end in (-1.0, 1.0):
        for side in (-1.0, 1.0):
            axle = build.bone(chassis, (side * width, end * length * 0.60, -height * 0.9), spin=1)
            build.frustum(axle, (-side * 0.10, 0, 0), (side * 0.12, 0, 0), radius, radius, tyre)
    for side in (-1.0, 1.0):
        build.ellipsoid(chassis, (side * width * 0.66, -length, 0.02), (0.10, 0.06, 0.10), plain(CREAM))
        build.ellipsoid(chassis, (side * width * 0.70, length, 0.02), (0.08, 0.04, 0.06), plain(MAIN["red"]))
    build.box(chassis, (0, -length - 0.03, -height * 0.75), (width * 0.92, 0.07, 0.07), plain(STEEL))
    noun, body = draw.choice((("truck", _truck), ("car", _car), ("steam engine", _engine)))
    body(build, draw, palette, chassis, (width, length, height))
    return f"a {adjective} {palette.name} {noun} toy"


def _cab(build: Builder, palette: Palette, bone: int, at: Vector, size: Vector) -> None:
    """Add a box with windows: one panel wraps front and back, thin slabs carry the side windows."""
    glass = (0.62, 0.78, 0.88)
    build.box(bone, at, size, panel(palette.main, glass, 1, 0.0, 0.62, 0.80))
    for side in (-1.0, 1.0):
        x = at[0] + side * size[0]
        build.box(
            bone, (x, at[1], at[2] + size[2] * 0.1), (0.012, size[1] * 0.66, size[2] * 0.52), plain(glass)
        )


def _truck(build: Builder, draw: Draw, palette: Palette, chassis: int, size: Vector) -> None:
    width, length, height = size
    tall = draw.uniform(0.34, 0.42)
    _cab(
        build, palette, chassis, (0, -length * 0.45, height + tall * 0.97), (width * 0.88, length * 0.36, tall)
    )
    build.box(
        chassis,
        (0, -length * 0.45, height + tall * 1.98),
        (width * 0.96, length * 0.42, 0.04),
        plain(palette.accent),
    )
    if draw.chance(0.5):  # a crane
        mast = build.bone(
            chassis,
            (0, length * 0.42, height),
            axis=Z,
            swing=draw.uniform(0.05, 0.10),
            phase=draw.uniform(0, 1),
        )
        build.frustum(mast, (0, 0, -0.02), (0, 0, 0.26), 0.25, 0.20, plain(palette.dark))
        arm = build.bone(mast, (0, 0, 0.22), axis=X, swing=0.03, phase=draw.uniform(0, 1), bias=0.04)
        build.capsule(arm, (0, 0, 0), (0, -0.05, 0.72), 0.075, plain(GOLD))
        hook = build.bone(arm, (0, -0.05, 0.72), axis=X, swing=0.05, cycles=2)
        build.capsule(hook, (0, 0, 0), (0, 0.26, -0.28), 0.045, plain(STEEL))
        build.ellipsoid(hook, (0, 0.28, -0.34), (0.11, 0.11, 0.11), plain(palette.accent))
    else:  # a tipping bed with a ball on it
        bed = build.bone(
            chassis, (0, length * 0.92, height), axis=X, swing=0.02, phase=draw.uniform(0, 1), bias=-0.02
        )
        build.box(bed, (0, -length * 0.46, 0.08), (width * 0.94, length * 0.46, 0.07), plain(palette.dark))
        for side in (-1.0, 1.0):
            build.box(
                bed,
                (side * width * 0.88, -length * 0.46, 0.24),
                (0.05, length * 0.46, 0.12),
                plain(palette.accent),
            )
        ball = build.bone(bed, (0, -length * 0.46, 0.40), slide=(0.0, 0.0, 0.05), cycles=2)
        _, skin = body_skin(draw, Palette.draw(draw), along=2)
        build.ellipsoid(ball, (0, 0, 0), (0.30, 0.30, 0.30), skin)


def _car(build: Builder, draw: Draw, palette: Palette, chassis: int, size: Vector) -> None:
    width, length, height = size
    tall = draw.uniform(0.28, 0.36)
    top = height + tall * 1.95
    _cab(build, palette, chassis, (0, length * 0.10, height + tall * 0.95), (width * 0.84, length * 0.56, tall))
    roof = draw.choice((palette.accent, palette.light, palette.dark))
    build.box(chassis, (0, length * 0.10, top), (width * 0.92, length * 0.62, 0.045), plain(roof))
    if draw.chance(0.5):  # a turning siren
        lamp = build.bone(chassis, (0, length * 0.10, top), axis=Z, spin=1)
        skin = split(MAIN["blue"], MAIN["red"], X, 0.0)
        build.frustum(
            chassis, (0, length * 0.10, top), (0, length * 0.10, top + 0.09), 0.20, 0.20, plain(STEEL)
        )
        build.ellipsoid(lamp, (0, 0, 0.14), (0.17, 0.17, 0.17), skin)
    else:  # a flag
        pole = build.bone(
            chassis, (0, length * 0.45, top), axis=X, swing=0.02, cycles=2, phase=draw.uniform(0, 1)
        )
        build.capsule(pole, (0, 0, 0), (0, 0, 0.55), 0.035, plain(STEEL))
        cloth = build.bone(pole, (0, 0, 0.42), axis=Z, swing=0.06, cycles=2)
        build.box(
            cloth,
            (0, 0.20, 0),
            (0.03, 0.20, 0.13),
            Skin(roof, palette.main, pattern=CHECKS, args=(1.6, 0.5, 0, 0)),
        )


def _engine(build: Builder, draw: Draw, palette: Palette, chassis: int, size: Vector) -> None:
    width, length, height = size
    boiler = draw.uniform(0.30, 0.36)
    z = height + boiler * 0.9
    ring = band(palette.accent, palette.dark, 2, draw.uniform(-0.2, 0.2), 0.12)
    build.frustum(chassis, (0, length * 0.25, z), (0, -length * 0.86, z), boiler, boiler, ring)
    build.ellipsoid(chassis, (0, -length * 0.86, z), (boiler * 0.82, 0.10, boiler * 0.82), plain(palette.light))
    tall = draw.uniform(0.42, 0.50)
    _cab(build, palette, chassis, (0, length * 0.60, height + tall * 0.97), (width * 0.90, length * 0.36, tall))
    build.box(
        chassis, (0, length * 0.60, height + tall * 1.98), (width, length * 0.42, 0.05), plain(palette.dark)
    )
    stack = build.bone(chassis, (0, -length * 0.58, z + boiler * 0.8), slide=(0.0, 0.0, 0.03), cycles=2)
    build.frustum(stack, (0, 0, -0.1), (0, 0, 0.34), 0.10, 0.17, plain(palette.dark))
    for k, side in enumerate((-1.0, 1.0, 0.5)):
        puff = build.bone(
            stack,
            (side * 0.05, 0.04 * k, 0.42 + 0.10 * k),
            axis=Y,
            slide=(0.06 * side, 0.0, 0.04),
            slide_phase=0.3 * k,
        )
        build.ellipsoid(puff, (0, 0, 0), (0.13, 0.13, 0.12), plain((0.84, 0.86, 0.90)))
    build.ellipsoid(chassis, (0, -length * 0.05, z + boiler), (0.13, 0.13, 0.16), plain(GOLD))


def plant(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a flower or a cactus with a face in a pot; it sways, leaves and petals move."""
    pot_color = draw.choice(POT)
    pot = build.bone(0, (0, 0, 0), axis=Z)
    rim, foot, tall = draw.uniform(0.36, 0.44), draw.uniform(0.25, 0.31), draw.uniform(0.42, 0.52)
    adjective, skin = body_skin(
        draw,
        Palette("", pot_color, blend(pot_color, CREAM, 0.65), blend(pot_color, INK, 0.4), palette.main),
        along=2,
    )
    build.frustum(pot, (0, 0, 0), (0, 0, tall), foot, rim, skin)
    build.frustum(pot, (0, 0, tall - 0.02), (0, 0, tall + 0.12), rim * 1.14, rim * 1.14, plain(pot_color))
    build.ellipsoid(pot, (0, 0, tall + 0.10), (rim * 1.02, rim * 1.02, 0.10), plain((0.38, 0.27, 0.21)))
    if draw.chance(0.65):
        _flower(build, draw, palette, pot, tall + 0.12)
        return f"a {palette.name} flower toy in a {adjective} pot"
    _cactus(build, draw, palette, pot, tall + 0.12)
    return f"a green cactus toy in a {adjective} pot"


def _flower(build: Builder, draw: Draw, palette: Palette, pot: int, ground: float) -> None:
    leaf = draw.choice(LEAF)
    sway, phase = draw.uniform(0.012, 0.022), draw.uniform(0, 1)
    axis = draw.choice((Y, Y, X))
    piece = draw.uniform(0.20, 0.30)
    joint, at = pot, ground
    for k in range(3):
        joint = build.bone(joint, (0, 0, at), axis=axis, swing=sway, phase=phase - 0.08 * k)
        build.capsule(joint, (0, 0, 0), (0, 0, piece), 0.07, plain(leaf))
        at = piece
        if k < 2:
            side = 1.0 if k else -1.0
            blade = build.bone(
                joint,
                (0, 0, piece * 0.3),
                axis=Y,
                swing=0.03,
                cycles=2,
                phase=phase + 0.5 * k,
                bias=-side * 0.07,
            )
            build.ellipsoid(
                blade, (side * 0.30, 0, 0), (0.30, 0.15, 0.05), split(leaf, blend(leaf, CREAM, 0.35), Y, 0.0)
            )
    head = build.bone(joint, (0, -0.02, piece + 0.22), axis=X, swing=0.02, phase=phase + 0.3, bias=-0.015)
    count = int(draw.uniform(6, 10))
    wide, reach = draw.uniform(0.15, 0.21), draw.uniform(0.24, 0.32)
    centre = draw.uniform(0.26, 0.32)
    other = draw.choice((palette.main, palette.light, palette.accent))  # every second petal of an even number
    for k in range(count):
        # Each petal hangs on its own hinge, turned to its place about the flower's axis Y.
        place = build.bone(head, (0, 0.03 * (k % 2), 0), axis=Y, bias=k / count)
        hinge = build.bone(place, (0, 0, centre * 0.75), axis=X, swing=0.025, cycles=1, phase=phase, bias=0.02)
        color = other if k % 2 and count % 2 == 0 else palette.main
        petal = Skin(blend(color, palette.dark, 0.25), color, pattern=GRADIENT, args=(2, -0.9, 0.1, 0.0))
        build.ellipsoid(hinge, (0, 0, reach * 0.8), (wide, 0.06, reach), petal)
    size = (centre, 0.16, centre)
    heart = GOLD if palette.name not in ("yellow", "orange") else MAIN["brown"]
    build.ellipsoid(head, (0, 0, 0), size, plain(heart))
    eyes(build, head, (0, 0, 0), size, 0.34, 0.16, 0.06)


def _cactus(build: Builder, draw: Draw, palette: Palette, pot: int, ground: float) -> None:
    green = draw.choice(LEAF)
    rib = Skin(green, blend(green, CREAM, 0.35), pattern=STRIPES, args=(2, draw.uniform(2.2, 3.2), 0.3, 0.30))
    sway, phase = draw.uniform(0.012, 0.02), draw.uniform(0, 1)
    tall, thick = draw.uniform(0.66, 0.84), draw.uniform(0.27, 0.33)
    trunk = build.bone(pot, (0, 0, ground - 0.05), axis=Y, swing=sway, phase=phase)
    build.capsule(trunk, (0, 0, 0), (0, 0, tall), thick, rib)
    for side in (-1.0, 1.0):
        root = (side * thick * 0.8, 0, tall * draw.uniform(0.35, 0.55))
        arm = build.bone(trunk, root, axis=Y, swing=side * 0.03, cycles=2, phase=phase + 0.25)
        elbow = (side * 0.28, 0, 0.04)
        build.capsule(arm, (0, 0, 0), elbow, 0.12, plain(green))
        fore = build.bone(arm, elbow, axis=Y, swing=side * 0.03, cycles=2, phase=phase)
        build.capsule(fore, (0, 0, 0), (side * 0.03, 0, draw.uniform(0.22, 0.34)), 0.125, plain(green))
    crown = build.bone(trunk, (0, 0, tall + thick * 0.9), axis=Z, swing=0.05, phase=phase)
    for k in range(5):
        place = build.bone(crown, (0, 0, 0.04), axis=Z, bias=k / 5)
        build.ellipsoid(place, (0.13, 0, 0.04), (0.14, 0.09, 0.06), plain(palette.main), axis=Y, turn=-0.06)
    build.ellipsoid(crown, (0, 0, 0.08), (0.10, 0.10, 0.08), plain(palette.accent))
    for side in (-1.0, 1.0):
        at = on_ellipsoid((0, 0, tall * 0.72), (thick, thick, thick), (side * 0.40, -1.0, 0.0), 0.97)
        build.ellipsoid(trunk, at, (0.075, 0.06, 0.085), eye((side * 0.1, -1.0, 0.05)))
    mouth = (0.0, -thick * 0.985, tall * 0.72 - 0.15)
    build.ellipsoid(trunk, mouth, (0.06, 0.03, 0.025), plain(INK))
