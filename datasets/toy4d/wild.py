"""Body plans of `toy4d-wild`, none of which training sees: fiddler, serpent, dragonfly, carousel, harlequin.

Nothing that the prior has learnt completes them: left and right sides differ, what is behind does not follow
from the front (patches and marks that no symmetry repeats), parts hide one another, and the whole toy travels
and turns, so that between two keyframes its surface moves by two tokens of the small prior or more on average.
They look along −Y, Z is up.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mvtokenflow.datasets.toy4d.build import (
    CREAM,
    GOLD,
    INK,
    MAIN,
    STEEL,
    Builder,
    Color,
    Draw,
    Palette,
    Skin,
    X,
    Y,
    Z,
    blend,
    eye,
    eyes,
    marks,
    on_ellipsoid,
    patches,
    plain,
)


def _travel(build: Builder, draw: Draw, height: float, way: float, rise: float, turn: float) -> int:
    """Add the joint that carries the whole toy: it travels sideways and up and down, and turns about Z.

    The phases put neighbouring keyframes, a quarter of the clip apart, near opposite ends of the way.
    """
    side = draw.choice((-1.0, 1.0))
    phase = draw.uniform(0.17, 0.33)
    across = build.bone(0, (0, 0, height), cycles=2, slide=(side * way, 0.0, 0.0), slide_phase=phase)
    return build.bone(
        across,
        (0, 0, 0),
        axis=Z,
        swing=turn * draw.choice((-1.0, 1.0)),
        phase=draw.uniform(0, 1),
        slide=(0.0, 0.0, rise),
        slide_phase=draw.uniform(0, 1),
    )


def _others(draw: Draw, palette: Palette) -> tuple[Color, Color]:
    """Draw two colours that are not the palette's main one."""
    names = [name for name in MAIN if name != palette.name]
    first = draw.choice(names)
    return MAIN[first], MAIN[draw.choice([name for name in names if name != first])]


def fiddler(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a fiddler crab that scuttles sideways: one giant pincer, one small, a shell of patches."""
    one, two = _others(draw, palette)
    width, length, height = draw.uniform(0.52, 0.60), draw.uniform(0.40, 0.46), draw.uniform(0.34, 0.40)
    body = _travel(build, draw, 0.72, draw.uniform(0.40, 0.50), 0.03, draw.uniform(0.03, 0.06))
    shell = patches(draw, palette.main, one, palette.light, draw.uniform(1.6, 2.2))
    build.ellipsoid(body, (0, 0, 0), (width, length, height), shell)
    step, phase = draw.uniform(0.04, 0.06), draw.uniform(0, 1)
    for side in (-1.0, 1.0):
        for k, along in enumerate((-0.30, 0.05, 0.38)):
            beat = phase + 0.5 * ((k + (side > 0)) % 2)
            at = (side * width * 0.72, along * 0.9, -0.10)
            hip = build.bone(body, at, axis=Z, swing=step, phase=beat, cycles=2)
            knee = (side * 0.28, along * 0.30, 0.10)
            build.capsule(hip, (0, 0, 0), knee, 0.085, plain(draw.choice((palette.main, one, two))))
            shin = build.bone(hip, knee, axis=Y, swing=side * step, phase=beat + 0.25, cycles=2)
            foot = (side * 0.14, along * 0.14, -0.66)
            build.frustum(shin, (0, 0, 0.03), foot, 0.085, 0.03, plain(draw.choice((palette.dark, INK, two))))
    giant = draw.choice((-1.0, 1.0))
    for side in (-1.0, 1.0):
        size = draw.uniform(0.30, 0.36) if side == giant else draw.uniform(0.10, 0.14)
        at = (side * width * 0.62, -length * 0.62, 0.04)
        shoulder = build.bone(body, at, axis=Y, swing=draw.uniform(0.05, 0.08), phase=draw.uniform(0, 1))
        elbow = (side * 0.30, -0.20, 0.13)
        build.capsule(shoulder, (0, 0, 0), elbow, 0.06 + 0.12 * size, plain(two))
        claw = build.bone(shoulder, elbow, axis=Z, swing=side * 0.04, phase=phase)
        skin = marks(draw, palette.light, INK, one, 1, -1.0, 7.0) if side == giant else plain(palette.accent)
        build.ellipsoid(claw, (0, -0.04, size * 0.6), (size, size * 0.62, size * 1.05), skin)
        for jaw in (-1.0, 1.0):
            at = (jaw * size * 0.40, -0.06, size * 1.25)
            hinge = build.bone(claw, at, axis=Y, swing=jaw * 0.04, cycles=2, phase=phase, bias=jaw * 0.03)
            tip = (jaw * 0.03, -0.03, size * 1.1)
            build.frustum(
                hinge, (0, 0, -0.04), tip, size * 0.42, 0.015, plain((palette.light, two)[int(jaw > 0)])
            )
    for side in (-1.0, 1.0):
        tall = draw.uniform(0.22, 0.48)
        at = (side * 0.19, -length * 0.62, height * 0.62)
        stalk = build.bone(body, at, axis=Y, swing=0.04, phase=phase + 0.2 * side)
        build.capsule(stalk, (0, 0, -0.05), (0, -0.03, tall), 0.055, plain(palette.main))
        build.ellipsoid(stalk, (0, -0.04, tall + 0.08), (0.13, 0.13, 0.14), eye((0.0, -1.0, 0.05)))
    return f"a {palette.name} fiddler crab toy"


def serpent(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a sea serpent: two chains of segments bend up and down and sideways in a travelling wave."""
    one, two = _others(draw, palette)
    middle = _travel(build, draw, 0.8, draw.uniform(0.20, 0.28), 0.08, draw.uniform(0.06, 0.10))
    phase, delay = draw.uniform(0, 1), draw.uniform(0.13, 0.17)
    up, sideways = draw.uniform(0.055, 0.075), draw.uniform(0.03, 0.05)
    radius, step = draw.uniform(0.27, 0.31), 0.28
    head = draw.choice((-1.0, 1.0))
    build.ellipsoid(middle, (0, 0, 0), (0.2, radius, radius), patches(draw, palette.main, one, two, 1.6))
    for side in (-1.0, 1.0):
        bone, count = middle, 3 if side == head else 4
        for k in range(count):
            beat = phase - side * head * delay * (k + 1)
            at = (side * step * (0.5 if k == 0 else 1.0), 0.0, 0.0)
            lift = build.bone(
                bone, at, axis=Y, swing=side * up, phase=beat, bias=-side * (0.06 if k == 0 else 0.0)
            )
            bone = build.bone(lift, (0, 0, 0), axis=Z, swing=sideways, phase=beat + 0.25)
            thin = radius * (1.0 if side == head else 1.0 - 0.16 * (k + 1))
            skin = (
                patches(draw, palette.main, one, two, 1.6)
                if k % 2 == 0
                else marks(draw, palette.light, palette.dark, one, 1, draw.choice((-1.0, 1.0)), 4.5)
            )
            build.capsule(bone, (0, 0, 0), (side * step, 0, 0), thin, skin)
            if side != head or k < 2:  # a comb on the back, each tooth in another colour
                tooth = draw.choice((palette.accent, one, two))
                build.frustum(
                    bone, (side * 0.14, 0, thin * 0.7), (side * 0.14, 0, thin + 0.16), 0.09, 0.01, plain(tooth)
                )
        if side == head:
            neck = build.bone(bone, (side * step, 0, 0), axis=Z, bias=side * 0.14, swing=0.05, phase=phase)
            centre, size = (side * 0.16, -0.04, 0.04), (0.34, 0.31, 0.28)
            build.ellipsoid(neck, centre, size, patches(draw, palette.main, palette.light, two, 1.5))
            for way, colour in ((-1.0, palette.accent), (1.0, one)):
                root = on_ellipsoid(centre, size, (side * 0.2, way * 0.8, 1.0), 0.9)
                build.frustum(
                    neck, root, (root[0], root[1] + way * 0.10, root[2] + 0.22), 0.06, 0.012, plain(colour)
                )
                at = on_ellipsoid(centre, size, (side * 1.0, way * 0.75, 0.35), 0.95)
                build.ellipsoid(neck, at, (0.10, 0.10, 0.11), eye((side * 1.0, way * 0.8, 0.1)))
        else:
            flap = build.bone(bone, (side * step, 0, 0), axis=Y, swing=0.08, phase=phase)
            build.ellipsoid(flap, (side * 0.14, 0, 0), (0.22, 0.05, 0.17), plain(two))
    return f"a {palette.name} sea serpent toy"


def dragonfly(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a hovering insect: four wings of different colours, six legs, a long jointed tail."""
    one, two = _others(draw, palette)
    way, rise = draw.uniform(0.24, 0.32), draw.uniform(0.08, 0.14)
    carried = _travel(build, draw, 0.9, way, rise, draw.uniform(0.05, 0.09))
    body = build.bone(carried, (0, 0, 0), bias=draw.uniform(0.10, 0.15))  # its back leans to the front
    build.ellipsoid(body, (0, 0, 0), (0.31, 0.38, 0.32), patches(draw, palette.main, one, palette.dark, 1.6))
    phase = draw.uniform(0, 1)
    tail = build.bone(body, (0, 0.26, 0.02), swing=0.03, phase=phase, bias=-0.02)
    for k in range(5):
        skin = patches(draw, palette.main, (one, two)[k % 2], palette.light, 1.3)
        build.capsule(tail, (0, 0.02, 0), (0, 0.18, 0), 0.18 - 0.016 * k, skin)
        tail = build.bone(tail, (0, 0.19, 0), axis=(X, Z)[k % 2], swing=0.03, phase=phase - 0.12 * (k + 1))
    build.frustum(tail, (0, 0, 0), (0, 0.16, 0.10), 0.09, 0.02, plain(palette.accent))
    colours = [palette.light, one, two, blend(palette.accent, CREAM, 0.3)]
    flap, lift = draw.uniform(0.07, 0.10), draw.uniform(0.0, 0.06)
    for side in (-1.0, 1.0):
        for k, along in enumerate((-0.18, 0.22)):
            colour = colours.pop(int(draw.unit() * len(colours)))
            shoulder = build.bone(
                body,
                (side * 0.18, along, 0.20),
                axis=Y,
                swing=-side * flap,
                cycles=2,
                phase=phase + 0.22 * k,
                bias=-side * lift,
            )
            sweep = side * (0.03 if k else -0.04)
            skin = marks(draw, colour, INK, palette.dark, 2, draw.choice((-1.0, 1.0)), 8.0)
            build.ellipsoid(shoulder, (side * 0.48, 0, 0), (0.48, 0.24, 0.05), skin, axis=Z, turn=sweep)
            if draw.chance(0.5):
                build.ellipsoid(shoulder, (side * 0.78, 0, 0), (0.15, 0.19, 0.065), plain(palette.accent))
    for side in (-1.0, 1.0):
        for along in (-0.16, 0.0, 0.16):
            at = (side * 0.14, along, -0.20)
            hip = build.bone(body, at, axis=Y, swing=0.05, phase=draw.uniform(0, 1), bias=side * 0.05)
            build.capsule(hip, (0, 0, 0), (0, 0, -0.30), 0.045, plain(draw.choice((INK, palette.dark, two))))
    joint = build.bone(body, (0, -0.30, 0.06), axis=draw.choice((X, Z)), swing=0.05, phase=phase)
    build.ellipsoid(joint, (0, -0.12, 0.02), (0.20, 0.18, 0.18), plain(palette.dark))
    for side, colour in ((-1.0, one), (1.0, palette.accent)):
        build.ellipsoid(
            joint, (side * 0.17, -0.18, 0.08), (0.15, 0.15, 0.17), patches(draw, colour, CREAM, INK, 2.2)
        )
    return f"a {palette.name} dragonfly toy"


def carousel(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a merry-go-round: a canopy of patches and four unlike gondolas turn about a pole with a sign."""
    one, two = _others(draw, palette)
    foot = _travel(build, draw, 0.0, draw.uniform(0.12, 0.20), 0.0, draw.uniform(0.02, 0.04))
    build.frustum(foot, (0, 0, 0), (0, 0, 0.16), 0.52, 0.44, patches(draw, palette.dark, STEEL, one, 1.8))
    build.frustum(foot, (0, 0, 0.16), (0, 0, 1.30), 0.10, 0.07, plain(STEEL))
    build.box(foot, (0, -0.47, 0.24), (0.30, 0.03, 0.14), marks(draw, CREAM, INK, two, 1, -1.0, 9.0))
    turning = build.bone(foot, (0, 0, 1.24), axis=Z, spin=draw.choice((-1, 1)), bias=draw.uniform(0, 1))
    wide = draw.uniform(0.62, 0.72)
    canopy = patches(draw, palette.main, one, palette.light, draw.uniform(1.8, 2.4))
    build.frustum(turning, (0, 0, 0), (0, 0, 0.42), wide, 0.08, canopy)
    build.ellipsoid(turning, (0, 0, 0.48), (0.10, 0.10, 0.12), plain(GOLD))
    shapes = ["ball", "box", "cone", "egg"]
    for k in range(4):
        hung = build.bone(turning, (0, 0, 0), axis=Z, bias=0.25 * k)
        arm = build.bone(
            hung,
            (0, -wide * 0.80, 0),
            axis=X,
            swing=draw.uniform(0.02, 0.05),
            phase=draw.uniform(0, 1),
            bias=0.04,
            slide=(0.0, 0.0, draw.uniform(0.04, 0.10)),
            slide_phase=draw.uniform(0, 1),
        )
        build.capsule(arm, (0, 0, 0.06), (0, 0, -0.42), 0.025, plain(STEEL))
        _gondola(build, draw, palette, arm, shapes.pop(int(draw.unit() * len(shapes))), (one, two)[k % 2])
    return f"a {palette.name} carousel toy"


def _gondola(build: Builder, draw: Draw, palette: Palette, arm: int, shape: str, colour: Color) -> None:
    size, skin = draw.uniform(0.17, 0.22), patches(draw, colour, palette.light, palette.accent, 1.4)
    if shape == "ball":
        build.ellipsoid(arm, (0, 0, -0.52), (size, size, size), skin)
    elif shape == "box":
        build.box(
            arm, (0, 0, -0.52), (size, size * 0.8, size * 0.7), marks(draw, CREAM, INK, colour, 1, -1.0, 6.0)
        )
    elif shape == "cone":
        build.frustum(arm, (0, 0, -0.72), (0, 0, -0.36), size, 0.03, skin)
    else:
        build.ellipsoid(arm, (0, 0, -0.52), (size * 0.7, size * 0.7, size * 1.3), plain(colour))
        eyes(build, arm, (0, 0, -0.52), (size * 0.7, size * 0.7, size * 1.3), 0.5, 0.4, 0.06)


def harlequin(build: Builder, draw: Draw, palette: Palette) -> str:
    """Build a jumping figure whose left and right sides differ in every limb, with a flag in one hand."""
    one, two = _others(draw, palette)
    body = _travel(
        build, draw, 0.95, draw.uniform(0.20, 0.30), draw.uniform(0.10, 0.16), draw.uniform(0.08, 0.12)
    )
    phase = draw.uniform(0, 1)
    coat = patches(draw, palette.main, one, palette.light, draw.uniform(1.6, 2.2))
    build.ellipsoid(body, (-0.10, 0, 0), (0.24, 0.24, 0.40), coat)
    build.ellipsoid(body, (0.10, 0, 0), (0.24, 0.24, 0.40), marks(draw, CREAM, INK, two, 1, -1.0, 7.0))
    limbs: tuple[tuple[float, Color, Color], ...] = ((-1.0, palette.main, one), (1.0, two, palette.accent))
    for side, upper, lower in limbs:
        thigh = draw.uniform(0.10, 0.15)
        hip = build.bone(
            body, (side * 0.16, 0, -0.34), axis=Y, swing=side * 0.06, cycles=2, phase=phase, bias=-side * 0.03
        )
        build.capsule(hip, (0, 0, 0), (0, 0, -0.30), thigh, plain(upper))
        knee = build.bone(hip, (0, 0, -0.30), swing=0.05, phase=phase + 0.25 * side)
        build.frustum(knee, (0, 0, 0.02), (0, 0, -0.30), thigh, 0.07, plain(lower))
        build.ellipsoid(knee, (0, -0.08, -0.32), (0.11, 0.18, 0.08), plain((palette.dark, GOLD)[int(side > 0)]))
        shoulder = build.bone(
            body, (side * 0.28, 0, 0.24), axis=Y, swing=side * 0.11, cycles=2, phase=phase, bias=-side * 0.22
        )
        build.capsule(shoulder, (0, 0, 0), (0, 0, -0.30), 0.085, plain(lower))
        elbow = build.bone(shoulder, (0, 0, -0.30), axis=Y, swing=side * 0.05, phase=phase, bias=-side * 0.05)
        build.capsule(elbow, (0, 0, 0), (0, 0, -0.26), 0.075, plain(upper))
        build.ellipsoid(elbow, (0, 0, -0.30), (0.10, 0.10, 0.10), plain(CREAM))
        if side > 0:
            build.capsule(elbow, (0, -0.10, -0.34), (0, -0.10, -0.72), 0.025, plain(STEEL))
            flag: Skin = marks(draw, one, CREAM, palette.dark, 1, -1.0, 6.0)
            build.box(elbow, (0.16, -0.10, -0.60), (0.18, 0.02, 0.13), flag)
    neck = build.bone(body, (0, 0, 0.36), axis=draw.choice((Z, Y)), swing=0.06, phase=draw.uniform(0, 1))
    centre, size = (0.0, -0.02, 0.22), (0.24, 0.23, 0.25)
    build.ellipsoid(neck, centre, size, plain(blend(CREAM, MAIN["pink"], 0.2)))
    eyes(build, neck, centre, size, 0.45, 0.15, 0.06)
    for side, upper, lower in limbs:  # two points of a cap with bells
        tip = build.bone(neck, (side * 0.08, 0, 0.40), axis=Y, swing=0.05, cycles=2, phase=phase + 0.3 * side)
        end = (side * draw.uniform(0.18, 0.30), 0.0, draw.uniform(0.10, 0.24))
        build.frustum(tip, (-side * 0.02, 0, -0.06), end, 0.17, 0.03, plain(upper))
        build.ellipsoid(tip, end, (0.06, 0.06, 0.06), plain(lower))
    return f"a {palette.name} harlequin toy"


WILD_PLANS: Mapping[str, Callable[[Builder, Draw, Palette], str]] = MappingProxyType(
    {
        "fiddler": fiddler,
        "serpent": serpent,
        "dragonfly": dragonfly,
        "carousel": carousel,
        "harlequin": harlequin,
    }
)
