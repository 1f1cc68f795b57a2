"""Body plans of animals: quadruped, bird, fish, and the held-out crab; they look along −Y, Z is up."""

from mvtokenflow.datasets.toy4d.build import (
    GOLD,
    INK,
    Builder,
    Color,
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
    plain,
    split,
)


def quadruped(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build four legs, a big head, ears, a tail, and sometimes horns or a mane; it walks and nods."""
    adjective, coat = body_skin(draw, palette)
    width, length, height = draw.uniform(0.38, 0.48), draw.uniform(0.56, 0.70), draw.uniform(0.36, 0.46)
    leg = draw.uniform(0.42, 0.62)
    phase = draw.uniform(0, 1)
    body = build.bone(0, (0.0, 0.0, leg + height * 0.8), slide=(0.0, 0.0, 0.02), slide_phase=phase, cycles=2)
    build.ellipsoid(body, (0.0, 0.0, 0.0), (width, length, height), coat)

    foot = draw.choice((palette.dark, palette.light, palette.main))
    thick = draw.uniform(0.12, 0.16)
    stride = draw.uniform(0.05, 0.08)
    for side in (-1.0, 1.0):
        for end in (-1.0, 1.0):
            hip = build.bone(
                body,
                (side * width * 0.58, end * length * 0.60, -height * 0.40),
                swing=stride,
                phase=phase + (0.0 if side == end else 0.5),
            )
            drop = -leg - height * 0.4 + thick
            build.capsule(hip, (0, 0, 0), (0, 0, drop), thick, split(palette.main, foot, Z, 0.45))

    _tail(build, draw, palette, body, (0.0, length * 0.92, height * 0.25))
    neck = draw.uniform(0.0, 0.40) if draw.chance(0.4) else 0.0
    joint = build.bone(
        body,
        (0.0, -length * 0.72, height * 0.45),
        axis=draw.choice((X, Z, Y)),
        swing=draw.uniform(0.025, 0.05),
        phase=draw.uniform(0, 1),
    )
    radius = draw.uniform(0.34, 0.42)
    head: Vector = (0.0, -0.20 - 0.3 * neck, 0.24 + neck)
    build.capsule(joint, (0, 0.05, -0.05), head, 0.2, plain(palette.main))
    _head(build, draw, palette, joint, head, (radius * 1.02, radius * 0.92, radius * 0.94))
    return f"a {adjective} {palette.name} quadruped toy"


def _tail(build: Builder, draw: Draw, palette: Palette, body: int, at: Vector) -> None:
    tail = build.bone(body, at, axis=Z, swing=draw.uniform(0.05, 0.10), cycles=2, phase=draw.uniform(0, 1))
    kind = draw.choice(("rod", "ball", "cone", "brush"))
    if kind == "rod":
        build.capsule(tail, (0, -0.1, -0.05), (0, 0.24, 0.34), 0.07, split(palette.main, palette.dark, Z, 0.4))
    elif kind == "ball":
        build.ellipsoid(tail, (0, 0.06, 0.04), (0.17, 0.17, 0.17), plain(palette.light))
    elif kind == "cone":
        build.frustum(tail, (0, -0.16, -0.06), (0, 0.36, 0.18), 0.17, 0.03, plain(palette.main))
    else:
        skin = split(palette.main, palette.light, Z, 0.25)
        build.ellipsoid(tail, (0, 0.14, 0.18), (0.13, 0.13, 0.32), skin, axis=X, turn=-0.09)


def _head(build: Builder, draw: Draw, palette: Palette, joint: int, head: Vector, size: Vector) -> None:
    x, y, z = head
    face = palette.main
    mask = draw.choice((plain(face), plain(face), split(face, palette.light, (0.0, -0.9, -0.44), 0.52)))
    build.ellipsoid(joint, head, size, mask)
    snout = draw.uniform(0.15, 0.22)
    at = (x, y - size[1] * 0.86, z - size[2] * 0.30)
    build.ellipsoid(joint, at, (snout * 1.15, snout, snout * 0.82), plain(palette.light))
    nose = (at[0], at[1] - snout * 0.86, at[2] + snout * 0.34)
    build.ellipsoid(joint, nose, (0.075, 0.06, 0.055), plain(INK))
    eyes(build, joint, head, size, 0.48, 0.30, draw.uniform(0.085, 0.105))
    kind = draw.choice(("round", "pointed", "floppy", "long"))
    inner = draw.choice((palette.light, palette.accent, palette.dark))
    wiggle = draw.uniform(0.015, 0.04)
    phase = draw.uniform(0, 1)
    for side in (-1.0, 1.0):
        spread = 1.25 if kind == "floppy" else 0.72
        root = on_ellipsoid(head, size, (side * spread, 0.12, 1.0), 0.92)
        ear = build.bone(joint, root, axis=Y, swing=side * wiggle, phase=phase, cycles=2, bias=side * 0.05)
        skin = split(palette.main, inner, (0.0, -1.0, 0.0), 0.30)
        if kind == "round":
            build.ellipsoid(ear, (0, 0, 0.08), (0.17, 0.08, 0.17), skin)
        elif kind == "pointed":
            build.frustum(ear, (0, 0, -0.08), (side * 0.04, 0, 0.36), 0.16, 0.02, skin)
        elif kind == "floppy":
            build.ellipsoid(ear, (side * 0.05, 0, -0.20), (0.09, 0.13, 0.28), plain(palette.dark))
        else:
            build.ellipsoid(ear, (0, 0, 0.28), (0.11, 0.07, 0.36), skin)
    if draw.chance(0.25):
        for side in (-1.0, 1.0):
            root = on_ellipsoid(head, size, (side * 0.30, -0.25, 1.0), 0.9)
            tip = (root[0] + side * 0.10, root[1] - 0.06, root[2] + 0.26)
            build.frustum(joint, root, tip, 0.075, 0.015, plain(palette.accent))


def bird(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a plump bird on two legs that flaps its wings, with a beak, a tail and sometimes a crest."""
    adjective, coat = body_skin(draw, palette, along=2)
    width, length, height = draw.uniform(0.42, 0.52), draw.uniform(0.48, 0.60), draw.uniform(0.46, 0.60)
    leg = draw.uniform(0.20, 0.34)
    phase = draw.uniform(0, 1)
    body = build.bone(
        0, (0, 0, leg + height), swing=0.012, phase=phase, slide=(0.0, 0.0, 0.05), slide_phase=phase
    )
    if adjective in ("plain", "two-tone"):
        adjective = "two-tone"
        coat = split(palette.main, palette.light, (0.0, -0.86, -0.5), draw.uniform(0.35, 0.55))
    build.ellipsoid(body, (0, 0, 0), (width, length, height), coat, axis=X, turn=-0.05)
    orange = blend(GOLD, palette.accent, draw.uniform(0.0, 0.35))
    for side in (-1.0, 1.0):
        hip = build.bone(body, (side * width * 0.45, 0.0, -height * 0.80), swing=0.03, phase=phase + 0.5 * side)
        build.capsule(hip, (0, 0, 0), (0, -0.02, -leg), 0.055, plain(orange))
        build.ellipsoid(hip, (0, -0.10, -leg - 0.02), (0.13, 0.19, 0.055), plain(orange))
    _wings(build, draw, palette, body, width, height, phase)
    tail = build.bone(body, (0, length * 0.80, -0.06), swing=0.03, phase=draw.uniform(0, 1), bias=0.06)
    build.ellipsoid(tail, (0, 0.22, 0.0), (draw.uniform(0.16, 0.26), 0.34, 0.07), plain(palette.dark))

    joint = build.bone(
        body,
        (0.0, -length * 0.30, height * 0.72),
        axis=draw.choice((X, Z, Y)),
        swing=draw.uniform(0.02, 0.05),
        phase=draw.uniform(0, 1),
    )
    radius = draw.uniform(0.34, 0.42)
    head, size = (0.0, -0.08, 0.20), (radius, radius, radius)
    build.ellipsoid(joint, head, size, plain(palette.main))
    root = on_ellipsoid(head, size, (0.0, -1.0, -0.12), 0.85)
    beak = draw.choice(("cone", "duck"))
    if beak == "cone":
        build.frustum(joint, root, (0, root[1] - 0.32, root[2] - 0.05), 0.13, 0.015, plain(orange))
    else:
        build.ellipsoid(joint, (0, root[1] - 0.10, root[2]), (0.19, 0.20, 0.065), plain(orange))
    eyes(build, joint, head, size, 0.55, 0.34, draw.uniform(0.085, 0.11))
    if draw.chance(0.6):
        crest = draw.choice((palette.accent, palette.dark))
        for k in range(3):
            root = on_ellipsoid(head, size, (0.0, -0.35 + 0.42 * k, 1.0), 0.9)
            tip = (0.0, root[1] + 0.10, root[2] + 0.24 - 0.03 * k)
            build.capsule(joint, root, tip, 0.055, plain(crest))
    return f"a {adjective} {palette.name} bird toy"


def _wings(
    build: Builder, draw: Draw, palette: Palette, body: int, width: float, height: float, phase: float
) -> None:
    span, flap, lift = draw.uniform(0.35, 0.46), draw.uniform(0.05, 0.09), draw.uniform(0.02, 0.10)
    tip_color: Color = draw.choice((palette.dark, palette.accent, palette.light))
    for side in (-1.0, 1.0):
        # A turn about +Y lowers +X; the sign of the side makes both wings rise together.
        shoulder = build.bone(
            body,
            (side * width * 0.86, 0.02, height * 0.22),
            axis=Y,
            swing=-side * flap,
            phase=phase,
            bias=side * (0.10 - lift),
        )
        skin = split(palette.main, tip_color, (side, 0.0, 0.0), 0.30)
        build.ellipsoid(shoulder, (side * span * 0.55, 0.04, 0), (span * 0.72, 0.26, 0.075), skin)
        wrist = build.bone(
            shoulder, (side * span, 0.06, 0), axis=Y, swing=-side * flap * 0.7, phase=phase - 0.12
        )
        build.ellipsoid(wrist, (side * 0.14, 0.06, 0), (0.24, 0.18, 0.055), plain(tip_color))


def fish(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a round fish that swims on the spot: body, tail stem and tail fin bend in sequence."""
    adjective, coat = body_skin(draw, palette)
    width, length, height = draw.uniform(0.36, 0.46), draw.uniform(0.58, 0.68), draw.uniform(0.48, 0.60)
    phase = draw.uniform(0, 1)
    bend = draw.uniform(0.018, 0.03)
    body = build.bone(0, (0, 0, 1.0), axis=Z, swing=bend, phase=phase, slide=(0.0, 0.0, 0.04))
    build.ellipsoid(body, (0, 0, 0), (width, length, height), coat)
    fin = draw.choice((palette.accent, palette.dark, palette.light))

    stem = build.bone(body, (0, length * 0.72, 0), axis=Z, swing=bend * 1.8, phase=phase - 0.15)
    build.frustum(stem, (0, -0.10, 0), (0, 0.30, 0), height * 0.52, 0.11, plain(palette.main))
    tail = build.bone(stem, (0, 0.26, 0), axis=Z, swing=bend * 2.4, phase=phase - 0.3)
    spread, reach = draw.uniform(0.08, 0.13), draw.uniform(0.30, 0.38)
    for side in (-1.0, 1.0):
        build.ellipsoid(
            tail,
            (0.0, 0.16, side * 0.20),
            (0.065, 0.17, reach),
            band(fin, palette.main, 2, -side * 0.9, 0.35),
            axis=X,
            turn=-side * spread,
        )
    # Fins.
    crest = draw.uniform(0.22, 0.34)
    top = build.bone(body, (0, 0.05, height * 0.86), axis=Y, swing=0.02, phase=phase - 0.1)
    build.ellipsoid(
        top, (0, 0.06, 0.05), (0.06, draw.uniform(0.28, 0.40), crest), plain(fin), axis=X, turn=-0.06
    )
    build.ellipsoid(body, (0, 0.16, -height * 0.90), (0.055, 0.18, 0.18), plain(fin), axis=X, turn=0.08)
    flap = draw.uniform(0.04, 0.07)
    for side in (-1.0, 1.0):
        joint = build.bone(
            body,
            (side * width * 0.88, -0.10, -height * 0.20),
            axis=Y,
            swing=-side * flap,
            phase=phase + 0.25,
            bias=side * 0.08,
        )
        build.ellipsoid(
            joint, (side * 0.18, 0.08, 0), (0.26, 0.16, 0.055), plain(fin), axis=Z, turn=side * 0.07
        )
    size = (width, length, height)
    eyes(build, body, (0, 0, 0), size, 0.85, 0.42, draw.uniform(0.115, 0.15))
    lips = on_ellipsoid((0, 0, 0), size, (0.0, -1.0, -0.22), 0.985)
    build.ellipsoid(body, lips, (0.13, 0.06, 0.075), plain(palette.accent))
    return f"a {adjective} {palette.name} fish toy"


def crab(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a crab on six legs with stalked eyes and two pincers, the plan held out of training."""
    adjective, shell = body_skin(draw, palette, along=0)
    width, length, height = draw.uniform(0.50, 0.60), draw.uniform(0.42, 0.50), draw.uniform(0.34, 0.42)
    phase = draw.uniform(0, 1)
    body = build.bone(0, (0, 0, 0.72), slide=(0.0, 0.0, 0.03), slide_phase=phase, cycles=2)
    build.ellipsoid(body, (0, 0, 0), (width, length, height), shell)
    step = draw.uniform(0.03, 0.05)
    for side in (-1.0, 1.0):
        for k, along in enumerate((-0.30, 0.05, 0.38)):
            beat = phase + 0.5 * ((k + (side > 0)) % 2)
            hip = build.bone(body, (side * width * 0.72, along * 0.9, -0.10), axis=Z, swing=step, phase=beat)
            knee = (side * 0.30, along * 0.30, 0.10)
            build.capsule(hip, (0, 0, 0), knee, 0.085, plain(palette.main))
            shin = build.bone(hip, knee, axis=Y, swing=side * step, phase=beat + 0.25)
            build.frustum(
                shin, (0, 0, 0.03), (side * 0.14, along * 0.14, -0.66), 0.085, 0.03, plain(palette.dark)
            )
            build.ellipsoid(shin, (0, 0, 0), (0.10, 0.10, 0.10), plain(palette.accent))
    _pincers(build, draw, palette, body, width, length)
    stalk = draw.uniform(0.30, 0.46)
    for side in (-1.0, 1.0):
        joint = build.bone(
            body,
            (side * 0.19, -length * 0.62, height * 0.62),
            axis=Y,
            swing=0.03,
            phase=phase,
            bias=side * 0.02,
        )
        build.capsule(joint, (0, 0, -0.05), (0, -0.03, stalk), 0.06, plain(palette.main))
        build.ellipsoid(joint, (0, -0.04, stalk + 0.08), (0.135, 0.135, 0.145), eye((0.0, -1.0, 0.05)))
    mouth = on_ellipsoid((0, 0, 0), (width, length, height), (0.0, -1.0, -0.15), 0.985)
    build.ellipsoid(body, mouth, (0.13, 0.05, 0.035), plain(INK))
    return f"a {adjective} {palette.name} crab toy"


def _pincers(build: Builder, draw: Draw, palette: Palette, body: int, width: float, length: float) -> None:
    big, open_, wave = draw.uniform(0.22, 0.28), draw.uniform(0.03, 0.05), draw.uniform(0.03, 0.05)
    phase = draw.uniform(0, 1)
    for side in (-1.0, 1.0):
        shoulder = build.bone(
            body,
            (side * width * 0.62, -length * 0.62, 0.04),
            axis=Y,
            swing=wave,
            phase=phase,
            bias=-side * 0.01,
        )
        elbow = (side * 0.34, -0.22, 0.13)
        build.capsule(shoulder, (0, 0, 0), elbow, 0.095, plain(palette.main))
        claw = build.bone(shoulder, elbow, axis=Z, swing=side * wave, phase=phase + 0.25)
        skin: Skin = split(palette.main, palette.light, Z, 0.25)
        build.ellipsoid(claw, (0, -0.04, 0.16), (big, big * 0.72, big * 1.05), skin)
        for jaw in (-1.0, 1.0):
            hinge = build.bone(
                claw,
                (jaw * 0.10, -0.06, 0.30),
                axis=Y,
                swing=jaw * open_,
                cycles=2,
                phase=phase,
                bias=jaw * 0.03,
            )
            build.frustum(hinge, (0, 0, -0.04), (jaw * 0.03, -0.03, 0.30), 0.11, 0.015, plain(palette.light))
