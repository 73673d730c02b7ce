"""Paint the scenes of the drawn sample in several manners, from shaded to flat and outlined."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageOps

from tests.drawing.draw_scenes import Item

SCALE = 2  # pictures are drawn larger by this factor and then reduced, which smooths the edges
Size = tuple[int, int]

PAINTS = {
    "r": "#c8322b",  # red
    "o": "#dd8a34",  # orange
    "y": "#f0c93a",  # yellow
    "g": "#4f9440",  # green
    "u": "#3f74b8",  # blue
    "v": "#7d53a0",  # violet
    "p": "#e58fa6",  # pink
    "n": "#85552f",  # brown
    "t": "#c79c66",  # tan
    "e": "#8a909c",  # grey
    "k": "#26252a",  # black
    "w": "#f5f3ec",  # white
    "s": "#eab78c",  # skin
    "a": "#a9d3e6",  # sky
    "q": "#4f3a28",  # dark brown
    "i": "#5a5f6b",  # dark grey
}


# Colours of a background: sky, haze at the horizon, far ground, near ground.
BACKGROUNDS = [
    ("#7fb2e0", "#dfeaf0", "#8fa85c", "#5c7f3a"),  # meadow
    ("#9cc3e6", "#f0eadb", "#e2cd9c", "#c6a66c"),  # beach
    ("#b4c3d1", "#e8e4dc", "#a5a4a2", "#77767a"),  # street
    ("#d9cdb8", "#e9dfcb", "#b08a62", "#8a6440"),  # room
]


def curve(points: list[tuple[float, float]], closed: bool) -> list[tuple[float, float]]:
    """Return the points of a smooth line through some points (Catmull-Rom)."""
    ring = [points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
    smooth = []
    for start in range(len(ring) - 3):
        controls = ring[start : start + 4]
        for step in range(8):
            t = step / 7
            weights = (
                -t + 2 * t**2 - t**3,
                2 - 5 * t**2 + 3 * t**3,
                t + 4 * t**2 - 3 * t**3,
                t**3 - t**2,
            )
            x = sum(weight * point[0] for weight, point in zip(weights, controls, strict=True))
            y = sum(weight * point[1] for weight, point in zip(weights, controls, strict=True))
            smooth.append((x / 2, y / 2))
    return smooth


def shade(colour: str, factor: float) -> str:
    """Return a darker (factor below 1) or lighter colour."""
    red_green_blue = ImageColor.getrgb(colour)[:3]
    if factor < 1:
        mixed = [value * factor for value in red_green_blue]
    else:
        mixed = [255 - (255 - value) / factor for value in red_green_blue]
    return "#{:02x}{:02x}{:02x}".format(*map(round, mixed))


def palette(items: list[Item], rng: random.Random) -> list[dict[str, str]]:
    """Return the paints of each item: PAINTS, a main colour (m), its dark (d) and light (h) shade.

    Items of the same drawing, such as the back and the front of a box, get the same main colour.
    """
    mains: dict[tuple[str, float], str] = {}
    chosen = []
    for item in items:
        drawn = rng.choice(item.paints)
        main = PAINTS[mains.setdefault((item.paints, item.width), drawn)]
        chosen.append(PAINTS | {"m": main, "d": shade(main, 0.68), "h": shade(main, 1.5)})
    return chosen


def layer(item: Item, paints: dict[str, str], size: Size, outline: float) -> Image.Image:
    """Draw an item on a transparent picture.

    Args:
        item: the item.
        paints: the colour of each paint.
        size: the size of the picture in pixels.
        outline: the width of outlines in hundredths of the picture's height, 0 for none.
    """
    unit = size[1] / 100
    image = Image.new("RGBA", size, (128, 128, 128, 0))
    draw = ImageDraw.Draw(image)
    thick = max(1, round(outline * unit))
    for shape in item.art.replace("|", ";").split(";"):
        kind, paint, *rest = shape.split()
        numbers = [float(number) for number in rest]
        width = 0.0
        if kind in "ls":
            width = numbers.pop(0) * item.height / 100 * unit
        points = []
        for x, y in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = item.at(x, y)
            points.append((x * unit, y * unit))
        if kind in "cs":
            points = curve(points, closed=kind == "c")
        fill = paints[paint]
        edge = None
        if outline:
            edge = shade(fill, 0.45) if outline < 1 else "#141414"
        if kind in "ls":
            joints = points if kind == "l" else [points[0], points[-1]]
            if edge and width > 3:
                draw_line(draw, points, joints, edge, width + thick * 2)
            draw_line(draw, points, joints, fill, width)
        elif kind in "cp":
            draw.polygon(points, fill)
            if edge:
                draw.line([*points, points[0]], edge, thick, joint="curve")
        else:
            draw_box(draw, kind, points, fill, edge, thick)
    return image


def draw_line(
    draw: ImageDraw.ImageDraw,
    points: list[tuple[float, float]],
    joints: list[tuple[float, float]],
    colour: str,
    width: float,
) -> None:
    """Draw a line that is round at its joints."""
    wide = max(round(width), 2)
    draw.line(points, colour, wide, joint="curve")
    for x, y in joints:
        draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), colour)


def draw_box(
    draw: ImageDraw.ImageDraw,
    kind: str,
    points: list[tuple[float, float]],
    fill: str,
    edge: str | None,
    thick: int,
) -> None:
    """Draw an ellipse (o), a rounded box (r) or a box (b) between two corners."""
    x0, x1 = sorted(x for x, _ in points)
    y0, y1 = sorted(y for _, y in points)
    if kind == "o":
        draw.ellipse((x0, y0, x1, y1), fill, edge, thick)
        return
    radius = min(x1 - x0, y1 - y0) / 3 if kind == "r" else 0
    draw.rounded_rectangle((x0, y0, x1, y1), radius, fill, edge, thick)


def gradient(size: Size, top: str, bottom: str) -> Image.Image:
    """Return a picture whose colour changes from top to bottom."""
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), top, bottom)


def noise(size: Size, cell: Size, rng: random.Random, depth: float) -> Image.Image:
    """Return grey spots for overlays, `cell` pixels large and of a contrast `depth` (0 to 1)."""
    small = (size[0] // cell[0] + 2, size[1] // cell[1] + 2)
    spots = Image.frombytes("L", small, rng.randbytes(small[0] * small[1]))
    spots = spots.resize(size, Image.Resampling.BICUBIC)
    return Image.blend(Image.new("L", size, 128), spots, depth).convert("RGB")


def lay(image: Image.Image, flat: Image.Image, gloss: float, radius: float) -> None:
    """Paste a layer into the picture, lit from the upper left as if it were round."""
    margin = round(radius * 2)
    x0, y0, x1, y1 = flat.getbbox() or (0, 0, 1, 1)
    flat = flat.crop((x0 - margin, y0 - margin, x1 + margin, y1 + margin))
    alpha = flat.getchannel("A")
    soft = alpha.filter(ImageFilter.GaussianBlur(radius))
    step = round(radius * 0.7)
    right, left = ImageChops.offset(soft, step), ImageChops.offset(soft, -step)
    below, above = ImageChops.offset(soft, 0, step), ImageChops.offset(soft, 0, -step)
    across = ImageChops.subtract(right, left, 1 / gloss, 128)
    down = ImageChops.subtract(below, above, 1 / gloss, 128)
    relief = ImageOps.invert(Image.blend(across, down, 0.6)).convert("RGB")
    lit = ImageChops.hard_light(flat.convert("RGB"), relief)
    image.paste(lit, (x0 - margin, y0 - margin), alpha)


def shadows(items: list[Item], size: Size, ground: float) -> Image.Image:
    """Return the shadows of the items on the ground: white, and darker below each item."""
    unit = size[1] / 100
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    for item in items:
        if item.width:
            lift = max(ground - item.y, 0)
            x = item.x + 3 + lift / 40
            wide = item.half * 1.05
            box = ((x - wide) * unit, (ground - 3) * unit, (x + wide) * unit, (ground + 3.5) * unit)
            draw.ellipse(box, round(90 + min(lift, 45) * 2))
    return image.filter(ImageFilter.GaussianBlur(1.6 * unit)).convert("RGB")


def shake(image: Image.Image, cell: int, reach: float, rng: random.Random) -> Image.Image:
    """Return the picture with unsteady lines, as of a brush; `cell` divides its width and height.

    Every corner of a cell moves by at most `reach` pixels, except at the border.
    """
    wide, high = image.width // cell, image.height // cell
    corners = {}
    for i in range(wide + 1):
        for j in range(high + 1):
            x, y = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
            if i in (0, wide):
                x = 0
            if j in (0, high):
                y = 0
            corners[i, j] = (i * cell + x, j * cell + y)
    mesh = []
    for i in range(wide):
        for j in range(high):
            box = (i * cell, j * cell, (i + 1) * cell, (j + 1) * cell)
            left = (*corners[i, j], *corners[i, j + 1])
            right = (*corners[i + 1, j + 1], *corners[i + 1, j])
            mesh.append((box, (*left, *right)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def landscape(size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Return a background: sky and ground, sky and water (`wet`), or wall and floor."""
    if wet:
        sky, haze, far, near = "#8dbbe4", "#e5eef2", "#6fa3b8", "#2f6d8c"
    else:
        sky, haze, far, near = rng.choice(BACKGROUNDS)
    horizon = round(size[1] * rng.uniform(0.56, 0.66))
    image = gradient(size, sky, haze)
    clouds = noise(size, (size[0] // 5, size[1] // 9), rng, 0.35)
    image = ImageChops.soft_light(image, clouds)
    image = image.resize((size[0], horizon))
    scene = gradient(size, far, near)
    scene.paste(image, (0, 0))
    return scene


def photo(
    items: list[Item], size: Size, wet: bool, rng: random.Random, clean: bool = False
) -> Image.Image:
    """Paint like a photo: light from one side, shadows, a soft background, grain unless `clean`."""
    paints = palette(items, rng)
    ground = find_ground(items)
    image = landscape(size, wet, rng).filter(ImageFilter.GaussianBlur(size[1] / 100))
    if not clean:
        image = ImageChops.overlay(image, noise(size, (7, 3), rng, 0.2))
    image = ImageChops.multiply(image, shadows(items, size, ground))
    for item, own in zip(items, paints, strict=True):
        lay(image, layer(item, own, size, 0), 0.7, size[1] / 30)
    if not clean:
        image = ImageChops.soft_light(image, noise(size, (2, 2), rng, 0.13))
    vignette = Image.radial_gradient("L").resize(size)
    vignette = vignette.point(lambda value: 255 - max(value - 110, 0) // 2)
    return ImageChops.multiply(image, vignette.convert("RGB"))


def find_ground(items: list[Item]) -> float:
    """Return the height of the ground: the lowest foot of all items that are not lines."""
    return max(item.y for item in items if item.width)


def render(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Paint like a render: glossy bodies on a plain backdrop."""
    paints = palette(items, rng)
    back = rng.choice(["#b9c4d6", "#d8c9b8", "#c0d0c2", "#cfc3d4", "#d5d3cf"])
    backdrop = Image.radial_gradient("L").resize(size)
    image = ImageOps.colorize(backdrop, shade(back, 1.7), shade(back, 0.8))
    image = ImageChops.multiply(image, shadows(items, size, find_ground(items)))
    for item, own in zip(items, paints, strict=True):
        lay(image, layer(item, own, size, 0), 0.85, size[1] / 22)
    return image


def watercolor(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Paint in thin colours that run at their edges, on a blotted wash."""
    paints = palette(items, rng)
    paper = Image.new("RGB", size, "#fbf7ec")
    wash = Image.blend(landscape(size, wet, rng), paper, 0.45)
    blot = noise(size, (size[0] // 5, size[1] // 5), rng, 0.5).convert("L")
    frame = Image.new("L", size, 0)
    frame.paste(255, (size[0] // 12, size[1] // 12, size[0] * 11 // 12, size[1] * 11 // 12))
    frame = frame.filter(ImageFilter.GaussianBlur(size[1] / 16))
    edge = ImageChops.add(frame, blot, 2)
    edge = edge.point(lambda value: min(max((value - 110) * 9, 0), 255))
    paper.paste(wash, (0, 0), edge)
    white = Image.new("RGB", size, "white")
    for item, own in zip(items, paints, strict=True):
        part = layer(item, own, size, 0.9)
        alpha = part.getchannel("A")
        pale = Image.blend(part.convert("RGB"), white, 0.12)
        pale = Image.composite(pale, white, alpha)
        lifted = Image.composite(white, paper, alpha.point(lambda value: value * 3 // 4))
        paper = ImageChops.multiply(lifted, pale)
    paper = ImageChops.soft_light(paper, noise(size, (18, 18), rng, 0.6))
    return shake(paper, 16, 2.4, rng)


def abstract(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Paint in loud wrong colours with heavy outlines, on pale wedges around one point."""
    loud = ["#e4572e", "#f3a712", "#29a19c", "#5b3e96", "#e94f88", "#a8c030", "#2d6cdf", "#f6e27f"]
    image = Image.new("RGB", size, "#e9dfc8")
    draw = ImageDraw.Draw(image)
    hub = (size[0] * rng.uniform(0.3, 0.7), size[1] * rng.uniform(0.3, 0.6))
    rim = [(0, 0), (1, 0), (1, 0.7), (1, 1), (0.4, 1), (0, 1), (0, 0.4), (0, 0)]
    corners = [(x * size[0], y * size[1]) for x, y in rim]
    for one, two, colour in zip(corners, corners[1:], rng.sample(loud, 7), strict=False):
        draw.polygon([hub, one, two], shade(colour, 3.2))
    for item in items:
        own = dict(zip("rogunvptyesaqi", rng.sample([*loud, *loud], 14), strict=True))
        main = rng.choice(loud)
        own |= {"k": "#141414", "w": "#fffdf5"}
        own |= {"m": main, "d": shade(main, 0.6), "h": shade(main, 1.8)}
        part = layer(item, own, size, 1.1)
        image.paste(part, (0, 0), part)
    return image


def oil(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Paint in short thick strokes, coarse ones in the background and fine ones on the figures."""
    image = photo(items, size, wet, rng, clean=True)
    image = ImageChops.soft_light(image, noise(size, (14, 14), rng, 0.6))
    figures = Image.new("L", size)
    for item in items:
        part = layer(item, PAINTS | dict.fromkeys("mdh", "#000000"), size, 0)
        figures.paste(255, (0, 0), part)
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    for length, width, count in ((24, 8, 700), (6, 2, 3000)):
        for _ in range(count):
            x, y = rng.randrange(size[0]), rng.randrange(size[1])
            if length < 10 and not figures.getpixel((x, y)):
                continue
            dx, dy = length / 2 * rng.uniform(0.6, 1), length / 2 * rng.uniform(-0.6, 0.3)
            tone = rng.uniform(0.88, 1.12)
            red, green, blue = bytes(image.crop((x, y, x + 1, y + 1)).tobytes())
            colour = (int(red * tone), int(green * tone), int(blue * tone))
            draw.line((x - dx, y - dy, x + dx, y + dy), colour, width)
        if length > 10:  # the coarse strokes of the background stay behind the figures
            canvas.paste(image, (0, 0), figures)
    return canvas


def cartoon(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Paint flat and outlined before two plain colours."""
    paints = palette(items, rng)
    image = Image.new("RGB", size, rng.choice(["#cfe8f5", "#fbe6c8", "#e3dcf2"]))
    floor = "#6fa9c8" if wet else rng.choice(["#b7d59a", "#e5d3a3"])
    image.paste(floor, (0, round(size[1] * 0.66), *size))
    for item, own in zip(items, paints, strict=True):
        part = layer(item, own, size, 0.8)
        image.paste(part, (0, 0), part)
    return image


class Manner(NamedTuple):
    """How pictures of a domain or a style are painted.

    Attributes:
        draw: paints items at a size, on water or not.
        size: width and height of the picture in pixels.
        colours: the number of colours of a PNG, 0 for a JPEG.
    """

    draw: Callable[[list[Item], Size, bool, random.Random], Image.Image]
    size: Size
    colours: int


MANNERS = {
    "real": Manner(photo, (200, 150), 0),
    "sdxl": Manner(render, (160, 160), 0),
    "photo-realistic": Manner(partial(photo, clean=True), (144, 144), 96),
    "watercolor": Manner(watercolor, (144, 144), 40),
    "abstract": Manner(abstract, (144, 144), 48),
    "oil-painting": Manner(oil, (144, 144), 40),
    "": Manner(cartoon, (144, 144), 32),
}


def paint(items: list[Item], manner: str, wet: bool, rng: random.Random) -> Image.Image:
    """Paint a scene in one of MANNERS, on water where `wet`."""
    draw, size, colours = MANNERS[manner]
    image = draw(items, (size[0] * SCALE, size[1] * SCALE), wet, rng)
    image = image.resize(size, Image.Resampling.BOX)
    if colours:
        image = image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    return image
