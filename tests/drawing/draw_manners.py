"""The manners of the drawn sample: how a scene is painted, from a photo's shading to flat outlined shapes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageOps

from tests.drawing.draw_scenes import Item

SCALE = 2  # everything is drawn this much larger and then reduced, which smooths the edges
Size = tuple[int, int]

PAINTS = {
    "r": "#c8322b", "o": "#dd8a34", "y": "#f0c93a", "g": "#4f9440", "u": "#3f74b8", "v": "#7d53a0",
    "p": "#e58fa6", "n": "#85552f", "t": "#c79c66", "e": "#8a909c", "k": "#26252a", "w": "#f5f3ec",
    "s": "#eab78c", "a": "#a9d3e6",
    "q": "#4f3a28", "i": "#5a5f6b",
}  # fmt: skip


def curve(points: list[tuple[float, float]], closed: bool) -> list[tuple[float, float]]:
    """A smooth line through the points (Catmull-Rom)."""
    ring = [points[-1], *points, *points[:2]] if closed else [points[0], *points, points[-1]]
    smooth = []
    for start in range(len(ring) - 3):
        for t in (n / 7 for n in range(8)):
            weights = (
                -t + 2 * t**2 - t**3,
                2 - 5 * t**2 + 3 * t**3,
                t + 4 * t**2 - 3 * t**3,
                t**3 - t**2,
            )
            pairs = list(zip(weights, ring[start : start + 4], strict=True))
            smooth.append(
                (sum(w * p[0] for w, p in pairs) / 2, sum(w * p[1] for w, p in pairs) / 2)
            )
    return smooth


def shade(colour: str, factor: float) -> str:
    """A darker (below 1) or lighter colour."""
    parts = ImageColor.getrgb(colour)[:3]
    mixed = [p * factor if factor < 1 else 255 - (255 - p) / factor for p in parts]
    return "#{:02x}{:02x}{:02x}".format(*map(round, mixed))


def palette(items: list[Item], rng: random.Random) -> list[dict[str, str]]:
    """The paints for each item: the common ones, one of its own main colours and two shades of that."""
    mains: dict[tuple[str, float], str] = {}  # the back and the front of one thing get the same
    chosen = []
    for it in items:
        main = PAINTS[mains.setdefault((it.paints, it.width), rng.choice(it.paints))]
        chosen.append(PAINTS | {"m": main, "d": shade(main, 0.68), "h": shade(main, 1.5)})
    return chosen


def layer(item: Item, paints: dict[str, str], size: Size, outline: float) -> Image.Image:
    """One drawing alone on a clear picture, its shapes with an outline of so many units, 0 for none."""
    unit = size[1] / 100
    image = Image.new("RGBA", size, (128, 128, 128, 0))
    draw = ImageDraw.Draw(image)
    thick = max(1, round(outline * unit))
    for shape in item.art.replace("|", ";").split(";"):
        kind, paint, *rest = shape.split()
        numbers = [float(n) for n in rest]
        width = numbers.pop(0) * item.height / 100 * unit if kind in "ls" else 0.0
        points = [item.at(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        points = [(x * unit, y * unit) for x, y in points]
        fill = paints[paint]
        line = shade(fill, 0.45) if outline < 1 else "#141414"
        if kind in "cs":
            points = curve(points, kind == "c")
        if kind in "ls":
            for colour, add in ((line, thick * 2 if outline and width > 3 else 0), (fill, 0)):
                wide = max(round(width + add), 2)
                draw.line(points, colour, wide, joint="curve")
                for x, y in (points[0], points[-1]) if kind == "s" else points:
                    draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), colour)
        elif kind in "cp":
            draw.polygon(points, fill)
            if outline:
                draw.line([*points, points[0]], line, thick, joint="curve")
        else:
            (x0, x1), (y0, y1) = (sorted(p[n] for p in points) for n in (0, 1))
            edge = line if outline else None
            if kind == "o":
                draw.ellipse((x0, y0, x1, y1), fill, edge, thick)
            else:
                radius = min(x1 - x0, y1 - y0) / 3 if kind == "r" else 0
                draw.rounded_rectangle((x0, y0, x1, y1), radius, fill, edge, thick)
    return image


def gradient(size: Size, top: str, bottom: str) -> Image.Image:
    """A picture that passes from one colour above to another below."""
    return ImageOps.colorize(Image.linear_gradient("L").resize(size), top, bottom)


def noise(size: Size, cell: Size, rng: random.Random, depth: float) -> Image.Image:
    """Grey mottling with spots of the given size in pixels, `depth` strong (0 to 1), for overlays."""
    small = (size[0] // cell[0] + 2, size[1] // cell[1] + 2)
    spots = Image.frombytes("L", small, rng.randbytes(small[0] * small[1])).resize(
        size, Image.Resampling.BICUBIC
    )
    return Image.blend(Image.new("L", size, 128), spots, depth).convert("RGB")


def lay(image: Image.Image, flat: Image.Image, gloss: float, radius: float) -> None:
    """Puts a layer on the picture, lit from above left as if it were round."""
    margin = round(radius * 2)
    x0, y0, x1, y1 = flat.getbbox() or (0, 0, 1, 1)
    flat = flat.crop((x0 - margin, y0 - margin, x1 + margin, y1 + margin))
    alpha = flat.getchannel("A")
    soft = alpha.filter(ImageFilter.GaussianBlur(radius))
    step = round(radius * 0.7)
    light = ImageChops.subtract(
        ImageChops.offset(soft, step), ImageChops.offset(soft, -step), 1 / gloss, 128
    )
    down = ImageChops.subtract(
        ImageChops.offset(soft, 0, step), ImageChops.offset(soft, 0, -step), 1 / gloss, 128
    )
    relief = ImageOps.invert(Image.blend(light, down, 0.6)).convert("RGB")
    lit = ImageChops.hard_light(flat.convert("RGB"), relief)
    image.paste(lit, (x0 - margin, y0 - margin), alpha)


def shadows(items: list[Item], size: Size, ground: float, rng: random.Random) -> Image.Image:
    """What the things keep from the light on the ground: white, darker below each of them."""
    unit = size[1] / 100
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    for it in items:
        if it.width:
            lift = max(ground - it.y, 0)
            x, wide = it.x + 3 + lift / 40, it.half * 1.05
            box = ((x - wide) * unit, (ground - 3) * unit, (x + wide) * unit, (ground + 3.5) * unit)
            draw.ellipse(box, round(90 + min(lift, 45) * 2))
    return image.filter(ImageFilter.GaussianBlur(1.6 * unit)).convert("RGB")


def shake(image: Image.Image, cell: int, reach: float, rng: random.Random) -> Image.Image:
    """The picture with its lines made unsteady, as by a brush; `cell` divides its width and height."""
    wide, high = image.width // cell, image.height // cell
    inner = range(1, wide), range(1, high)  # the border stays where it is
    knots = {
        (i, j): (
            i * cell + rng.uniform(-reach, reach) * (i in inner[0]),
            j * cell + rng.uniform(-reach, reach) * (j in inner[1]),
        )
        for i in range(wide + 1)
        for j in range(high + 1)
    }
    mesh = [
        (
            (i * cell, j * cell, (i + 1) * cell, (j + 1) * cell),
            (*knots[i, j], *knots[i, j + 1], *knots[i + 1, j + 1], *knots[i + 1, j]),
        )
        for i in range(wide)
        for j in range(high)
    ]
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def landscape(size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Sky and ground (water under a boat), or a wall and a floor."""
    places = [
        ("#7fb2e0", "#dfeaf0", "#8fa85c", "#5c7f3a"),  # meadow
        ("#9cc3e6", "#f0eadb", "#e2cd9c", "#c6a66c"),  # beach
        ("#b4c3d1", "#e8e4dc", "#a5a4a2", "#77767a"),  # street
        ("#d9cdb8", "#e9dfcb", "#b08a62", "#8a6440"),  # room
    ]
    sky, haze, far, near = (
        ("#8dbbe4", "#e5eef2", "#6fa3b8", "#2f6d8c") if wet else rng.choice(places)
    )
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
    """Like a photo: light from one side, shadows, a soft background; and grain, unless it is to be clean."""
    paints = palette(items, rng)
    ground = max(it.y for it in items if it.width)
    image = landscape(size, wet, rng).filter(ImageFilter.GaussianBlur(size[1] / 100))
    if not clean:
        image = ImageChops.overlay(image, noise(size, (7, 3), rng, 0.2))
    image = ImageChops.multiply(image, shadows(items, size, ground, rng))
    for it, own in zip(items, paints, strict=True):
        lay(image, layer(it, own, size, 0), 0.7, size[1] / 30)
    if not clean:
        image = ImageChops.soft_light(image, noise(size, (2, 2), rng, 0.13))
    dim = Image.radial_gradient("L").resize(size).point(lambda v: 255 - max(v - 110, 0) // 2)
    return ImageChops.multiply(image, dim.convert("RGB"))


def render(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Like a render: glossy bodies on a plain backdrop."""
    paints = palette(items, rng)
    back = rng.choice(["#b9c4d6", "#d8c9b8", "#c0d0c2", "#cfc3d4", "#d5d3cf"])
    image = ImageOps.colorize(
        Image.radial_gradient("L").resize(size), shade(back, 1.7), shade(back, 0.8)
    )
    image = ImageChops.multiply(
        image, shadows(items, size, max(it.y for it in items if it.width), rng)
    )
    for it, own in zip(items, paints, strict=True):
        lay(image, layer(it, own, size, 0), 0.85, size[1] / 22)
    return image


def watercolor(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Thin colours on paper that run at their edges, with a blotted wash behind."""
    paints = palette(items, rng)
    paper = Image.new("RGB", size, "#fbf7ec")
    wash = Image.blend(landscape(size, wet, rng), paper, 0.45)
    blot = noise(size, (size[0] // 5, size[1] // 5), rng, 0.5).convert("L")
    frame = Image.new("L", size, 0)
    frame.paste(255, (size[0] // 12, size[1] // 12, size[0] * 11 // 12, size[1] * 11 // 12))
    frame = frame.filter(ImageFilter.GaussianBlur(size[1] / 16))
    wet_edge = ImageChops.add(frame, blot, 2).point(lambda v: min(max((v - 110) * 9, 0), 255))
    paper.paste(wash, (0, 0), wet_edge)
    for it, own in zip(items, paints, strict=True):
        part = layer(it, own, size, 0.9)
        alpha = part.getchannel("A")
        pale = Image.blend(part.convert("RGB"), Image.new("RGB", size, "white"), 0.12)
        pale = Image.composite(pale, Image.new("RGB", size, "white"), alpha)
        lifted = Image.composite(
            Image.new("RGB", size, "white"), paper, alpha.point(lambda v: v * 3 // 4)
        )
        paper = ImageChops.multiply(lifted, pale)
    paper = ImageChops.soft_light(paper, noise(size, (18, 18), rng, 0.6))
    return shake(paper, 16, 2.4, rng)


def abstract(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Wedges of pale colour around one point, figures in loud wrong colours with heavy contours."""
    loud = ["#e4572e", "#f3a712", "#29a19c", "#5b3e96", "#e94f88", "#a8c030", "#2d6cdf", "#f6e27f"]
    image = Image.new("RGB", size, "#e9dfc8")
    draw = ImageDraw.Draw(image)
    hub = (size[0] * rng.uniform(0.3, 0.7), size[1] * rng.uniform(0.3, 0.6))
    rim = [(0, 0), (1, 0), (1, 0.7), (1, 1), (0.4, 1), (0, 1), (0, 0.4), (0, 0)]
    corners = [(x * size[0], y * size[1]) for x, y in rim]
    for one, two, colour in zip(corners, corners[1:], rng.sample(loud, 7), strict=False):
        draw.polygon([hub, one, two], shade(colour, 3.2))
    for it in items:
        own = dict(zip("rogunvptyesaqi", rng.sample([*loud, *loud], 14), strict=True)) | {
            "k": "#141414",
            "w": "#fffdf5",
        }
        main = rng.choice(loud)
        own |= {"m": main, "d": shade(main, 0.6), "h": shade(main, 1.8)}
        part = layer(it, own, size, 1.1)
        image.paste(part, (0, 0), part)
    return image


def oil(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Short thick strokes of paint, coarse behind and fine on the figures."""
    image = photo(items, size, wet, rng, clean=True)
    image = ImageChops.soft_light(image, noise(size, (14, 14), rng, 0.6))
    figures = Image.new("L", size)
    for it in items:
        part = layer(it, PAINTS | dict.fromkeys("mdh", "#000000"), size, 0)
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
        if length > 10:  # the figures anew, over the coarse strokes of the background
            canvas.paste(image, (0, 0), figures)
    return canvas


def cartoon(items: list[Item], size: Size, wet: bool, rng: random.Random) -> Image.Image:
    """Flat and outlined, before two plain colours: the manner without a style."""
    paints = palette(items, rng)
    image = Image.new("RGB", size, rng.choice(["#cfe8f5", "#fbe6c8", "#e3dcf2"]))
    image.paste(
        "#6fa9c8" if wet else rng.choice(["#b7d59a", "#e5d3a3"]), (0, round(size[1] * 0.66), *size)
    )
    for it, own in zip(items, paints, strict=True):
        part = layer(it, own, size, 0.8)
        image.paste(part, (0, 0), part)
    return image


# Manner, size of the picture and number of colours where it is stored as PNG.
Manner = Callable[[list[Item], Size, bool, random.Random], Image.Image]
MANNERS: dict[str, tuple[Manner, Size, int]] = {
    "real": (photo, (200, 150), 0),
    "sdxl": (render, (160, 160), 0),
    "photo-realistic": (partial(photo, clean=True), (144, 144), 96),
    "watercolor": (watercolor, (144, 144), 40),
    "abstract": (abstract, (144, 144), 48),
    "oil-painting": (oil, (144, 144), 40),
    "": (cartoon, (144, 144), 32),
}


def paint(items: list[Item], manner: str, wet: bool, rng: random.Random) -> Image.Image:
    """The scene in one of MANNERS, on water where it is wet; with few colours if it is for a PNG."""
    draw, size, colours = MANNERS[manner]
    image = draw(items, (size[0] * SCALE, size[1] * SCALE), wet, rng).resize(
        size, Image.Resampling.BOX
    )
    return (
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        if colours
        else image
    )
