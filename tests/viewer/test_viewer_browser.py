"""The viewer in headless Chromium with software WebGL, against the project's own rasterizer."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Browser, start_browser
from moving import moving_field
from numpy.typing import NDArray

from mvtokenflow.media.pictures import Pixels
from mvtokenflow.splat.export import ExportView
from mvtokenflow.splat.field import DynamicField, Render
from mvtokenflow.viewer.fields import pack_dynamic
from mvtokenflow.viewer.packing import Packed, Timing, pack_moments
from mvtokenflow.viewer.page import write_viewer

SIDE, TIMES = 128, tuple(n / 8 for n in range(9))
CAMERAS = [
    *((0, 0, "ortho"), (75, 10, "ortho"), (200, -25, "ortho")),
    *((30, 15, "pinhole"), (140, 0, "pinhole"), (285, 40, "pinhole")),
]
LOADED = "document.readyState === 'complete'"
READY = f"{LOADED} && (({{ready, error}}) => ready || error)(document.documentElement.dataset)"

HOOKS = (Path(__file__).parent / "hooks.js").read_text(encoding="utf-8")

# Every kind of data there is: name, field settings, whether it is stored as moments.
KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "frame": ({}, False),
    "residual": ({"rotation": "residual"}, False),
    "translation": ({"local_frame": False}, False),
    "one neighbour": ({"neighbours": 1, "nodes": 1}, False),
    "four neighbours": ({"neighbours": 4, "nodes": 300, "seed": 3}, False),
    "harmonics 1": ({"sh_degree": 1}, False),
    "harmonics 3": ({"sh_degree": 3}, False),
    "moments": ({}, True),
    "moments, harmonics 2": ({"sh_degree": 2}, True),
}


def pack(field: DynamicField, name: str, as_moments: bool) -> Packed:
    timing = Timing(times=TIMES)
    if not as_moments:
        return pack_dynamic(field, name, timing)
    with torch.no_grad():
        return pack_moments(field.at_many(TIMES), name, timing)


@pytest.fixture(scope="module")
def fields() -> dict[str, DynamicField]:
    return {name: moving_field(**settings) for name, (settings, _) in KINDS.items()}


@pytest.fixture(scope="module")
def page(fields: dict[str, DynamicField], tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = [pack(field, name, KINDS[name][1]) for name, field in fields.items()]
    folder = tmp_path_factory.mktemp("a page #1 with 100% é")
    return write_viewer(folder / "viewer.html", packed, title="toys")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    started, profile = start_browser()
    started.size(320, 400)
    yield started
    started.close()
    shutil.rmtree(profile, ignore_errors=True)


def opened(browser: Browser, page: Path, fragment: str = "") -> None:
    browser.events.clear()
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=page.as_uri() + fragment)
    browser.wait(READY, 60)
    if browser.js("'mvtf4d' in window"):
        browser.js(HOOKS)


def shot(browser: Browser, state: dict[str, Any], precision: str = "float32", side: int = SIDE) -> Pixels:
    """A picture that the page's renderer draws, read from the canvas."""
    options = json.dumps({"precision": precision})
    text = browser.js(f"mvtf4d.shot({json.dumps(state)}, {side}, {side}, {options})")
    bytes_ = np.frombuffer(base64.b64decode(text), np.uint8).reshape(side, side, 4)
    return np.ascontiguousarray(bytes_[::-1, :, :3])


def values(browser: Browser, state: dict[str, Any]) -> NDArray[np.float32]:
    """(z − 3, flow x, flow y) times alpha, and alpha, of the page's renderer."""
    texts = browser.js(f"mvtf4d.shot({json.dumps(state)}, {SIDE}, {SIDE}, {{values: true}})")
    read = np.frombuffer(base64.b64decode(texts[1]), np.float32).reshape(SIDE, SIDE, 4)
    return np.ascontiguousarray(read[::-1])


@torch.no_grad()
def rendered(field: DynamicField, camera: Any, time: float, side: int = SIDE, **options: Any) -> Render:
    azimuth, elevation, kind = camera
    cameras = ExportView(size=side, elevation_deg=elevation, kind=kind).cameras([azimuth])
    return field.render(cameras, time, **options)


def state_of(index: int, camera: Any, frame: float, **more: Any) -> dict[str, Any]:
    azimuth, elevation, kind = camera
    return {"a": index, "t": frame, "camera": kind, "place": {"az": azimuth, "el": elevation}, **more}


def psnr(picture: Pixels, seen: Render) -> float:
    want = (seen.rgb[0].clamp(0, 1).numpy() * 255).round()
    error = float(((picture - want) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


def test_pictures_are_those_of_the_rasterizer(
    browser: Browser, page: Path, fields: dict[str, DynamicField]
) -> None:
    """Six cameras, three times, and the three precisions of targets; every kind of data once."""
    opened(browser, page)
    assert browser.js("mvtf4d.live.renderer.precision") == "float32"
    for number, camera in enumerate(CAMERAS):
        frame = (0, 3, 8)[number % 3]
        seen = rendered(fields["frame"], camera, TIMES[frame])
        targets = {"float32": 50, "float16": 50, "bytes": 40} if number in (1, 4) else {"float32": 50}
        for precision, least in targets.items():
            found = psnr(shot(browser, state_of(0, camera, frame), precision), seen)
            assert found >= least, f"{camera}, frame {frame}, {precision}: {found:.1f} dB"
    for index, (name, field) in enumerate(fields.items()):
        for camera in CAMERAS[1:4:2]:
            found = psnr(shot(browser, state_of(index, camera, 5)), rendered(field, camera, TIMES[5]))
            assert found >= 50, f"{name}, {camera}: {found:.1f} dB"
    assert browser.complaints() == []


def test_the_low_pass_is_that_of_the_training_pixel_at_any_size(
    browser: Browser, page: Path, fields: dict[str, DynamicField]
) -> None:
    opened(browser, page)
    field = fields["frame"]
    for side in (40, 256):  # fewer pixels than the fit, which are averages of samples, and more
        for camera in CAMERAS[1:4:2]:
            found = psnr(
                shot(browser, state_of(0, camera, 2), side=side), rendered(field, camera, TIMES[2], side)
            )
            assert found >= 50, f"{side} pixels, {camera}: {found:.1f} dB"
    plain = moving_field()
    plain.pixel = None
    seen = rendered(plain, CAMERAS[1], TIMES[2])
    found = psnr(shot(browser, state_of(0, CAMERAS[1], 2, filter="plain")), seen)
    assert found >= 50
    assert psnr(shot(browser, state_of(0, CAMERAS[1], 2)), seen) < found - 5


def test_between_frames_pictures_are_close_to_the_network_s(
    browser: Browser, page: Path, fields: dict[str, DynamicField]
) -> None:
    opened(browser, page)
    for camera in CAMERAS[1:4:2]:
        seen = rendered(fields["frame"], camera, 4.5 / 8)
        assert psnr(shot(browser, state_of(0, camera, 4.5)), seen) >= 40


def test_control_points_go_smoothly_between_frames(browser: Browser, page: Path) -> None:
    """Steady acceleration is met exactly, also at both ends; two frames have a straight line between them."""
    opened(browser, page)

    def between(positions: list[float], frame: int) -> float:
        motion = [value for position in positions for value in (position, *[0.0] * 9)]
        field = {"frames": len(positions), "nodes_count": 1, "motion": motion}
        text = f"{{...{json.dumps(field)}, nodes: new Float32Array(3)}}"
        return float(browser.js(f"mvtf4d.poseOf({text}, {frame}, 0.5).places[0]"))

    for count in (3, 4, 6):
        for frame in range(count - 1):
            found = between([0.1 * step**2 for step in range(count)], frame)
            assert found == pytest.approx(0.1 * (frame + 0.5) ** 2, abs=1e-6), (count, frame)
    assert between([0.2, 0.4], 0) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["frame", "moments"])
def test_depth_flow_and_normals_are_those_of_the_rasterizer(
    browser: Browser, page: Path, fields: dict[str, DynamicField], name: str
) -> None:
    opened(browser, page)
    index, field = list(fields).index(name), fields[name]
    for camera in (CAMERAS[1], CAMERAS[3]):
        seen = rendered(field, camera, TIMES[3], flow_to=TIMES[4])
        found = values(browser, state_of(index, camera, 3))
        alpha = found[..., 3]
        solid = (alpha >= 0.5) & (seen.alpha[0, ..., 0].numpy() >= 0.5)
        depth = found[..., 0][solid] / alpha[solid] + 3
        assert np.abs(depth - seen.depth[0, ..., 0].numpy()[solid]).mean() <= 2e-3  # of toys: 1.5e-4
        assert seen.flow is not None
        apart = found[..., 1:3][solid] / alpha[solid][:, None] - seen.flow[0].numpy()[solid]
        assert np.linalg.norm(apart, axis=-1).mean() <= 0.02
        assert np.linalg.norm(seen.flow[0].numpy()[solid], axis=-1).mean() > 0.2
        picture = shot(browser, state_of(index, camera, 3, show="normals", bg="white"))
        white = (picture == 255).all(axis=-1)
        normals, valid = (value[0].numpy() for value in seen.normals)
        assert ((~white) == valid).mean() >= 0.999
        coloured = picture / 255 * 2 - 1
        unit = coloured / np.linalg.norm(coloured, axis=-1, keepdims=True)
        angle = np.degrees(np.arccos(np.clip((unit * normals).sum(axis=-1), -1, 1)))[valid & ~white]
        assert angle.mean() <= 1.5


def spread(browser: Browser) -> NDArray[np.float32]:
    """The stage of the page on screen."""
    box = browser.js("(({x, y, width, height}) => [x, y, width, height])(picture.getBoundingClientRect())")
    x, y, width, height = (int(value) for value in box)
    return browser.picture()[y : y + height, x : x + width].astype(np.float32)


def drawn_again(browser: Browser) -> None:
    browser.wait(
        "mvtf4d.sources[0].field && !mvtf4d.live.dirty && !mvtf4d.live.coarse && !mvtf4d.live.busy", 30
    )


def test_two_methods_have_one_camera_and_one_time(browser: Browser, page: Path) -> None:
    """The same field as control points and as moments, side by side: both halves are equal, also turned."""
    words = "#a=frame&b=moments&layout=side&az=40&el=20&t=3"
    opened(browser, page, words)
    for step in ("", "turn"):
        if step:
            browser.js("picture.focus()")
            browser.key("ArrowRight")
            browser.key(".")
        drawn_again(browser)
        whole = spread(browser)
        half = whole.shape[1] // 2
        left, right = whole[40:-4, 4 : half - 4], whole[40:-4, half + 4 : 2 * half - 4]
        assert left.min() < 150
        assert np.abs(left - right).mean() < 1.0
    assert browser.js("[mvtf4d.state.places[0].az, mvtf4d.state.t]") == [43, 4]
    assert "az=43" in browser.js("location.hash")


def test_every_action_has_a_key(browser: Browser, page: Path) -> None:
    opened(browser, page, "#layout=one&a=harmonics 1&zoom=0.5")
    browser.js("picture.focus()")
    state = "JSON.stringify(mvtf4d.state)"
    pressed = [*"2345", "1", "o", "c", "f", "a", "b", "w", "]", ".", ",", "End", "Home", "+", "-", "ArrowUp"]
    for key in pressed:
        before = browser.js(state)
        if key == ",":
            browser.js("mvtf4d.state.t = 5")
            before = browser.js(state)
        text = {"text": key} if len(key) == 1 else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        assert browser.js(state) != before, key
    browser.key("?")
    assert browser.js("!keys.hidden")
    browser.key(" ")
    browser.wait("mvtf4d.state.t > 0.2", 30)
    browser.key(" ")
    assert browser.complaints() == []


def test_a_second_pane_opened_while_the_first_is_decoded(browser: Browser, page: Path) -> None:
    """The picture was asked for with one field and drawn with two: the viewer gave up."""
    opened(browser, page, "#layout=one&a=harmonics 1&b=moments")
    browser.js("""new Promise((done) => {
        const press = (key) => picture.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        picture.focus();
        mvtf4d.sources[mvtf4d.state.a].field = undefined;
        press("o");
        requestAnimationFrame(() => { press("w"); done(); });
    })""")
    browser.wait("mvtf4d.live.fields.length === 2", 30)
    assert browser.js("mvtf4d.state.layout") != "one"
    assert browser.js("document.documentElement.dataset.error || ''") == ""
    assert browser.js("document.activeElement.id") == "picture"


def test_a_mouse_and_fingers_turn_move_and_zoom(browser: Browser, page: Path) -> None:
    opened(browser, page)

    left, top = browser.js("(({x, y}) => [x, y])(picture.getBoundingClientRect())")
    y = top + 60

    def drag(button: str, modifiers: int = 0) -> None:
        for kind, by in (("mousePressed", 60), ("mouseMoved", 120), ("mouseReleased", 120)):
            x = left + by
            held = {"none": 0, "left": 1, "right": 2}[button if kind != "mouseReleased" else "none"]
            browser.call(
                "Input.dispatchMouseEvent",
                **{"type": kind, "x": x, "y": y, "button": button, "buttons": held, "modifiers": modifiers},
                clickCount=1,
            )

    drag("left")
    assert browser.js("mvtf4d.state.places[0].az") == pytest.approx(-24)
    drag("left", modifiers=8)
    moved = browser.js("mvtf4d.state.places[0]")
    assert moved["az"] == pytest.approx(-24)
    assert np.hypot(moved["x"], moved["y"]) > 0.05
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=left + 60, y=y, deltaX=0, deltaY=-300)
    browser.wait("mvtf4d.state.places[0].zoom > 1.2")
    browser.size(390, 780, 3)
    opened(browser, page)
    box = browser.js("(({x, y, width, height}) => [x, y, width, height])(picture.getBoundingClientRect())")
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 4
    for kind, gap in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", 0)):
        points = (
            [] if kind == "touchEnd" else [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
        )
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    zoomed = browser.js("mvtf4d.state.places[0]")
    assert zoomed["zoom"] > 2
    for kind, shift in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", 0)):
        finger = [] if kind == "touchEnd" else [{"x": x + shift, "y": y, "id": 0}]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=finger)
    turned = browser.js("mvtf4d.state.places[0]")
    assert turned["az"] == pytest.approx(zoomed["az"] - 24), "one finger turns, by 0.4 degrees a pixel"
    assert (turned["zoom"], turned["x"], turned["y"]) == (zoomed["zoom"], zoomed["x"], zoomed["y"])
    assert (
        browser.js("[document.documentElement.scrollWidth, picture.getBoundingClientRect().height]")[0] <= 390
    )
    assert box[3] <= 0.75 * 780
    browser.size(320, 400)


def test_a_page_asks_for_nothing_else(browser: Browser, page: Path) -> None:
    opened(browser, page, "#show=flow&layout=wipe&points=1&bg=grey")
    drawn_again(browser)
    assert len(browser.requests()) == 1
    assert browser.complaints() == []
    assert browser.js("document.querySelector('#split').closest('.bar').hidden") is False


def test_a_newer_version_is_refused_in_a_sentence(browser: Browser, page: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.html"
    newer.write_text(page.read_text().replace("&#34;version&#34;:1", "&#34;version&#34;:2"))
    opened(browser, newer)
    said = browser.js("reason.textContent")
    assert "mvtf4d version 2; this page reads version 1" in said


def test_without_webgl_the_page_says_so_and_shows_the_video(
    fields: dict[str, DynamicField], tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"no film, but the page does not look into it")
    packed = pack(fields["frame"], "toy", False)
    page = write_viewer(tmp_path / "viewer.html", [packed], title="toy", turntable=film)
    browser, profile = start_browser("--disable-3d-apis")
    try:
        opened(browser, page)
        assert browser.js("reason.textContent").startswith("The object cannot be turned here: ")
        assert "WebGL 2" in browser.js("reason.textContent")
        assert browser.js("document.querySelectorAll('#fallback video').length") == 1
        assert browser.js("app.hidden")
    finally:
        browser.close()
        shutil.rmtree(profile, ignore_errors=True)


def test_a_large_field_is_ordered_at_once(
    browser: Browser, fields: dict[str, DynamicField], tmp_path: Path
) -> None:
    """Poses and order of 50,000 Gaussians take a small part of a frame; asserted generously."""
    large = pack(moving_field(count=50_000, nodes=512), "large", False)
    page = write_viewer(tmp_path / "page.html", [pack(fields["frame"], "toy", False), large], title="large")
    assert page.stat().st_size < 2.2 * 2**20
    opened(browser, page, "#layout=one")
    assert min(browser.js("mvtf4d.orderTime(1, 3.5)") for _ in range(3)) < 300


def test_the_first_picture_is_coarse_and_the_next_one_whole(browser: Browser, page: Path) -> None:
    """Two draws of all Gaussians; software makes a draw of its own of every instance, so there are none."""
    counting = """
        window.draws = [];
        const context = WebGL2RenderingContext.prototype, { drawElements } = context;
        context.drawElements = function (...given) {
            draws.push([this.canvas.width, given[1]]);
            drawElements.apply(this, given);
        };
        for (const name of ["drawArraysInstanced", "drawElementsInstanced"])
            context[name] = () => { throw new Error(name); };
    """
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=counting)
    opened(browser, page, "#layout=one&a=frame")
    drawn_again(browser)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
    width = browser.js("picture.clientWidth")
    assert browser.js("draws") == [[round(width / 2), 1800], [width, 1800]]
    assert browser.complaints() == []
