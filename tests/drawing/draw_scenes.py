"""Arrange the scenes of the drawn sample: which drawings a scene has, and where they are."""

from __future__ import annotations

import random
from typing import NamedTuple

SPATIAL = ("left", "right", "above", "over", "on", "in", "under")
MOVING = ("chase", "kick", "throw", "fly", "push", "pull")
SIZES = ("bigger", "smaller")
# Points of an animal's field: where it holds an object, and where it wears one.
HANDS = {"dog": (126, 42), "elephant": (130, 84)}
HEADS = {"dog": (96, 13), "cat": (99, 18)}


class Thing(NamedTuple):
    """The drawing of an object, seen from the side and looking right, on a field 100 units high.

    `art` is a list of shapes, separated by semicolons. A shape is a kind, a paint and numbers:

    - o ellipse, b box, r rounded box: two corners;
    - p polygon, c closed curve: their points;
    - l line, s curved line: the width, then the points.

    Paint m is one of `paints`, d its darker and h its lighter shade. Shapes after "|" are in front
    of an object that is in this one.

    Attributes:
        width: the width of the field.
        size: the height of the object in a picture of height 100.
        paints: the main colours to choose from, keys of PAINTS.
        art: the shapes.
        seat: x, y and width of the surface that carries or holds another object.
        roof: x, y and width of the room below the object; width 0 for none.
    """

    width: int
    size: int
    paints: str
    art: str
    seat: tuple[int, int, int] = (0, 0, 0)
    roof: tuple[int, int, int] = (0, 0, 0)


THINGS = {
    "cat": Thing(124, 29, "oei", seat=(50, 49, 80), art="""
        s m 8 16 64 2 44 6 20 14 10; b d 30 68 40 98; b d 68 68 77 98;
        c m 10 58 38 48 76 50 92 60 88 78 50 82 18 84; r m 15 64 27 100; r m 80 64 92 100;
        l d 4 36 50 38 64; l d 4 48 49 50 64; l d 4 60 50 61 64; p m 78 34 76 2 97 18;
        p m 103 18 122 2 120 34; p p 81 24 80 10 90 18; p p 109 18 118 10 117 24; o m 75 13 123 58;
        o y 84 27 96 40; o y 103 27 115 40; o k 88 28 92 39; o k 107 28 111 39;
        p p 96 43 103 43 99 48; l k 1 94 48 74 44; l k 1 94 50 74 53; l k 1 105 48 126 44;
        l k 1 105 50 126 53"""),
    "dog": Thing(130, 33, "nt", seat=(46, 49, 70), art="""
        s m 9 14 56 4 40 2 24; b d 30 68 42 98; b d 70 68 81 98;
        c m 10 54 40 48 74 48 94 40 98 62 84 78 50 74 18 82; r m 14 62 28 100; r m 82 60 96 100;
        p m 76 50 86 22 106 34 96 60; o m 78 8 114 46; r h 98 24 130 46; o k 120 20 132 32;
        l k 2 106 40 126 40; o w 100 15 109 25; o k 103 17 108 24;
        c d 78 10 90 10 92 30 84 52 74 46 74 24; l r 6 80 44 96 56"""),
    "elephant": Thing(136, 46, "e", seat=(46, 9, 60), art="""
        s d 4 6 36 1 52 4 66; r d 32 58 48 98; r d 64 58 78 98; o m 2 8 92 76; r m 12 56 30 100;
        r m 74 54 92 100; o m 76 4 120 54; s m 14 110 34 120 54 118 74 126 86 134 84;
        p w 100 50 108 46 122 62; c d 66 12 84 6 96 18 94 44 80 58 68 44; o k 103 20 109 27;
        l d 2 16 96 26 96; l d 2 78 96 88 96"""),
    "horse": Thing(126, 45, "nqt", seat=(48, 37, 44), art="""
        c k 10 36 0 44 0 74 8 82 12 60; b d 28 58 37 98; b d 74 58 83 98;
        c m 8 42 20 33 60 37 90 34 92 58 78 64 40 66 14 66; p m 14 50 30 60 24 98 14 98;
        p m 78 50 92 50 90 98 80 98; p m 70 40 90 8 108 14 94 52;
        p m 88 6 98 2 126 28 122 38 108 36 94 24; p m 92 8 95 -5 100 6;
        c k 68 38 78 16 92 0 96 8 86 22 76 42; o k 103 12 108 17; o k 119 28 123 32;
        b k 14 95 25 100; b k 80 95 91 100"""),
    "bird": Thing(150, 22, "ruy", seat=(70, 44, 50), art="""
        p d 0 48 36 52 38 70 6 68; l o 4 66 84 66 99 76 99; l o 4 82 84 82 99 92 99;
        c m 24 58 60 44 104 46 112 66 90 86 56 86; o m 88 22 126 62; p o 122 36 150 44 122 52;
        o w 104 30 116 42; o k 109 33 115 40; c d 50 60 34 28 22 2 62 12 88 38 92 64 70 72"""),
    "fish": Thing(180, 24, "ouy", seat=(100, 12, 60), art="""
        p d 36 50 2 8 14 50 2 92; p d 76 18 112 -4 126 18; p d 84 84 96 104 110 84;
        c m 26 50 66 14 120 8 164 32 178 54 160 76 116 92 66 84; c d 74 46 96 38 104 54 92 66 76 60;
        l h 3 58 36 64 50 58 64; o w 138 28 156 48; o k 146 33 154 44; l k 4 176 60 156 64;
        s d 4 128 22 120 50 130 78"""),
    "apple": Thing(94, 22, "rg", seat=(47, 20, 40), art="""
        s q 6 46 26 48 10 58 0; c g 52 12 68 0 86 4 72 18;
        c m 46 24 64 16 88 26 94 52 84 82 64 100 48 95 30 100 12 82 0 52 8 26 28 16;
        o h 14 34 30 54"""),
    "banana": Thing(150, 22, "y", seat=(90, 58, 60), art="""
        c m 12 4 26 8 40 46 84 60 136 40 148 46 138 76 96 98 48 94 16 60;
        p q 10 0 24 -4 26 14 13 14; p q 138 40 150 44 148 54 140 54;
        s d 3 20 24 40 68 86 80 138 56"""),
    "ball": Thing(100, 22, "rug", seat=(50, 2, 40), art="""
        o m 0 0 100 100; c w 38 4 62 4 58 30 58 70 62 96 38 96 42 70 42 30;
        c y 3 34 0 50 3 66 26 58 40 50 26 42; c y 97 34 100 50 97 66 74 58 60 50 74 42;
        o w 42 42 58 58"""),
    "balloon": Thing(72, 42, "rvu", seat=(36, 2, 20), art="""
        s k 1 36 60 32 74 40 88 36 100; p d 30 62 36 54 42 62;
        c m 36 0 60 8 70 28 60 48 36 58 12 48 2 28 12 8; o w 14 12 24 26"""),
    "kite": Thing(76, 36, "rv", art="""
        s k 1 38 68 48 78 34 88 44 100; p m 38 0 74 28 38 70 2 28; p y 38 0 74 28 38 28;
        p u 38 28 2 28 38 70; l k 2 38 0 38 70; l k 2 2 28 74 28; p r 36 76 50 72 50 82;
        p r 32 90 46 86 46 96"""),
    "flower": Thing(64, 30, "rpv", art="""
        s g 5 32 40 30 70 32 100; c g 32 84 46 64 62 62 52 80; c g 32 90 16 70 2 70 12 86;
        o m 20 -2 44 24; o m 20 36 44 62; o m 2 18 28 42; o m 36 18 62 42; o m 6 2 30 28;
        o m 34 2 58 28; o m 6 32 30 58; o m 34 32 58 58; o y 20 18 44 42"""),
    "hat": Thing(150, 14, "kuv", art="""
        c m 0 88 40 80 110 80 150 88 130 100 20 100; p m 32 88 38 4 112 4 118 88; b r 34 62 116 82;
        o d 38 -2 112 14"""),
    "cup": Thing(118, 26, "uwr", seat=(46, 25, 74), art="""
        s m 11 84 34 116 30 112 70 78 76; o d 2 2 90 26;
        o k 8 5 84 23 | c m 2 14 20 24 46 27 72 24 90 14 86 60 78 92 62 100 30 100 14 92 6 60;
        c h 12 32 18 34 24 80 20 82"""),
    "box": Thing(116, 34, "t", seat=(58, 12, 80), art="""
        p h 0 24 18 0 116 0 98 24; p d 98 24 116 0 116 78 98 100; b m 0 24 98 100;
        p w 40 24 58 0 72 0 56 24; b w 40 24 56 46; b n 66 76 88 90"""),
    "open box": Thing(140, 44, "t", seat=(71, 36, 84), art="""
        p q 20 36 30 20 112 20 122 36; p d 20 36 4 18 16 6 30 20;
        p d 122 36 138 18 126 6 112 20 | b m 20 36 122 100; b n 86 76 112 90;
        p h 20 36 122 36 130 52 12 52"""),
    "basket": Thing(140, 40, "no", seat=(70, 44, 100), art="""
        o q 8 32 132 56; s m 7 16 46 30 8 70 -6 110 8 124 46 | p m 6 44 134 44 118 100 22 100;
        l h 5 10 56 130 56; l d 4 13 68 127 68; l h 5 16 80 124 80; l d 4 19 92 121 92;
        l d 3 36 46 44 98; l d 3 58 46 62 98; l d 3 82 46 78 98; l d 3 104 46 96 98;
        l m 8 4 44 136 44"""),
    "table": Thing(170, 38, "nt", seat=(85, 5, 130), roof=(85, 24, 110), art="""
        p d 26 14 34 14 36 88 30 88; p d 136 14 144 14 140 88 134 88; p m 8 12 20 12 20 100 12 100;
        p m 150 12 162 12 158 100 150 100; p h 14 0 156 0 170 10 0 10; r m 0 9 170 20"""),
    "chair": Thing(66, 46, "nr", seat=(36, 54, 52), roof=(36, 66, 42), art="""
        l d 6 14 56 12 94; l d 6 52 56 54 94; r m 2 0 12 100; r m 2 4 12 30;
        p h 6 48 54 48 64 58 4 58; b m 4 56 64 64; l m 8 59 62 60 98; p h 2 2 10 0 10 48 4 50"""),
    "bed": Thing(220, 36, "nq", seat=(128, 24, 120), roof=(110, 60, 180), art="""
        r m 0 0 14 100; r m 206 22 220 100; b m 10 46 210 60; r w 14 28 206 50; r y 18 14 64 32;
        c u 74 24 200 24 208 52 140 50 74 52"""),
    "tree": Thing(96, 62, "g", seat=(48, 3, 50), roof=(22, 66, 52), art="""
        p n 40 50 54 50 58 100 36 100; o d 2 24 46 66; o d 50 24 94 66; o m 16 0 78 48;
        o m 6 22 56 62; o m 42 20 90 62; o h 26 8 50 26; o h 56 30 72 42"""),
    "house": Thing(116, 54, "wyp", seat=(58, 8, 30), art="""
        b r 82 4 94 34; b m 12 44 104 100; p r 0 46 58 2 116 46; r n 48 62 68 100; o y 62 80 66 84;
        b a 20 56 40 76; b a 76 56 96 76; l n 2 30 56 30 76; l n 2 20 66 40 66; l n 2 86 56 86 76;
        l n 2 76 66 96 66"""),
    "car": Thing(230, 27, "ruyg", seat=(112, 1, 80), art="""
        c m 44 40 66 6 90 0 138 0 162 8 188 40; p a 62 40 78 12 108 10 108 40;
        p a 116 40 116 10 144 12 164 40; r m 4 38 228 82; b i 2 70 230 80; o y 214 44 230 60;
        b r 2 44 12 60; l d 3 112 42 112 70; b k 120 48 134 52; o k 32 54 78 100; o e 44 66 66 88;
        o k 154 54 200 100; o e 166 66 188 88"""),
    "boat": Thing(190, 46, "nru", seat=(138, 71, 70), art="""
        l q 5 76 2 76 76; p w 70 6 70 62 16 62; p h 82 10 82 62 104 62; p r 76 0 76 8 62 4;
        p q 8 68 182 68 176 76 14 76 | c m 2 68 60 72 130 72 190 64 170 90 150 100 40 100 20 90;
        l w 4 12 78 178 76"""),
    "airplane": Thing(230, 24, "wa", seat=(120, 34, 80), art="""
        p r 14 44 2 0 28 0 54 42; c m 8 46 60 36 170 34 214 44 230 58 206 70 100 76 40 66;
        p u 96 58 60 100 84 100 140 60; p e 110 38 92 14 106 14 142 36; o u 70 44 82 54;
        o u 92 44 104 54; o u 114 44 126 54; o u 136 44 148 54; o u 158 44 170 54;
        p k 194 42 210 44 222 52 198 52; l r 3 20 62 214 64"""),
    "bicycle": Thing(168, 34, "rug", seat=(54, 9, 60), art="""
        s k 5 33 36 55 45 64 67 55 89 33 98 11 89 2 67 11 45 33 36;
        s k 5 135 36 157 45 166 67 157 89 135 98 113 89 104 67 113 45 135 36; l e 1 4 67 62 67;
        l e 1 33 38 33 96; l e 1 106 67 164 67; l e 1 135 38 135 96;
        l m 6 33 67 58 26 116 26 76 68 33 67; l m 6 76 68 54 14; l m 6 135 67 112 8;
        l k 6 112 8 128 2; r k 40 8 68 16; o e 69 61 83 75"""),
    "umbrella": Thing(116, 50, "rvu", seat=(58, 7, 20), roof=(30, 58, 54), art="""
        l q 4 58 0 58 92; s q 4 58 90 60 99 70 99 72 90;
        c m 58 6 86 12 106 30 116 54 100 48 86 54 72 47 58 54 44 47 30 54 16 48 0 54 10 30 30 12;
        c d 58 6 72 24 76 48 58 54 40 48 44 24"""),
}  # fmt: skip
# The joints of a person in each pose: two arms from the shoulder, two legs from the hip, on a field
# 100 wide; the neck is at 50 20, the hip at 50 54.
POSES = {
    "": ("50 27 38 40 37 55", "50 27 62 40 63 55", "46 54 44 76 43 97", "54 54 56 76 57 97"),
    "ride": ("50 27 62 42 78 44", "50 27 64 40 80 42", "50 54 66 62 60 82", "50 54 68 60 64 84"),
    "kick": ("50 27 32 36 22 28", "50 27 66 38 78 32", "48 54 45 76 40 97", "52 54 70 66 90 76"),
    "throw": ("50 27 36 38 28 30", "50 27 68 22 88 12", "48 54 40 76 28 97", "52 54 64 74 66 97"),
    "hold": ("50 27 42 42 44 55", "50 27 64 40 78 32", "46 54 44 76 43 97", "54 54 56 76 57 97"),
    "push": ("50 27 70 36 94 34", "50 27 68 42 94 42", "48 54 40 76 18 97", "52 54 64 72 52 97"),
    "lift": ("50 27 34 18 34 -2", "50 27 66 18 66 -2", "46 54 42 76 38 97", "54 54 58 76 62 97"),
    "carry": ("50 27 58 46 84 46", "50 27 60 44 86 46", "48 54 40 76 32 97", "52 54 62 74 66 97"),
    "eat": ("50 27 40 42 42 55", "50 27 70 36 66 17", "46 54 44 76 43 97", "54 54 56 76 57 97"),
    "sit": ("50 27 58 42 72 50", "50 27 60 42 74 48", "50 54 76 57 74 88", "50 54 78 57 77 90"),
    "fly": ("50 27 40 42 42 55", "50 27 66 30 80 14", "46 54 44 76 43 97", "54 54 56 76 57 97"),
    "pull": ("50 27 32 36 8 40", "50 27 34 40 8 43", "48 54 38 76 30 97", "52 54 66 72 74 97"),
}


class Item(NamedTuple):
    """A drawing in a scene; its units are hundredths of the picture's height.

    Attributes:
        art: the shapes, as in Thing.
        paints: the main colours to choose from; "k" for lines.
        width: the width of the drawing's field; 0 for lines such as a rope.
        x: the middle of the drawing.
        y: its foot, positive downwards; the ground is at 0.
        height: its height.
        flip: whether it is mirrored.
    """

    art: str
    paints: str
    width: float
    x: float
    y: float
    height: float
    flip: bool = False

    @property
    def half(self) -> float:
        """Half the width in the scene."""
        return self.width * self.height / 200

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the position in the scene of a point of the drawing's field."""
        direction = -1 if self.flip else 1
        return (
            self.x + (x - self.width / 2) * self.height / 100 * direction,
            self.y + (y - 100) * self.height / 100,
        )


def thing(name: str, pose: str = "") -> Thing:
    """Return the drawing of an object, of a running animal, or of a person in a pose."""
    if name in THINGS:
        drawing = THINGS[name]
        return drawing._replace(art=run(drawing.art)) if pose == "run" else drawing
    paints = "gvwo"
    hair = "c q 40 13 39 0 50 -3 62 3 60 7 47 8 44 14"
    dress = []
    if name == "woman":
        paints = "rpv"
        hair = "c n 39 8 44 -2 58 -2 61 6 50 6 47 20 40 36 32 32"
        if pose in ("", "hold", "fly", "eat"):
            dress = ["p m 43 42 57 42 67 74 35 74"]
    rear_arm, front_arm, rear_leg, front_leg = POSES[pose]
    shapes = [
        f"l s 6 {rear_arm}",
        f"l u 9 {rear_leg}",
        f"l u 9 {front_leg}",
        make_foot(rear_leg),
        make_foot(front_leg),
        "b s 46 16 54 26",  # neck
        "r m 40 23 60 58",  # body
        *dress,
        "o s 40 0 60 22",  # head
        hair,
        "o k 55 8 58 12",  # eye
        "l r 1 55 16 59 16",  # mouth
        f"l s 6 {front_arm}",
        "l d 8 50 27 52 30",  # sleeve
    ]
    return Thing(100, 46, paints, "; ".join(shapes))


def make_foot(leg: str) -> str:
    """Return the shape of the foot at the end of a leg."""
    x, y = map(int, leg.split()[-2:])
    return f"o q {x - 5} {y - 3} {x + 8} {y + 4}"


def run(art: str) -> str:
    """Return the art of a running animal: its upright legs, boxes to the ground, become slanted."""
    shapes = []
    for number, shape in enumerate(art.split(";")):
        kind, paint, *numbers = shape.split()
        if kind not in "rb" or int(numbers[3]) < 98:
            shapes.append(shape)
            continue
        left, top, right, _ = map(int, numbers)
        middle = (left + right) // 2
        foot = middle + 20 if number % 2 else middle - 18
        shapes.append(f"l {paint} {right - left} {middle} {top + 4} {foot} 95")
    return ";".join(shapes)


def put(
    name: str, x: float = 0, y: float = 0, height: float = 0, pose: str = "", widest: float = 999
) -> Item:
    """Return an object with its foot at a point, in its usual height, and at most `widest` wide."""
    drawing = thing(name, pose)
    height = min(height or drawing.size, widest * 100 / drawing.width)
    return Item(drawing.art, drawing.paints, drawing.width, x, y, height)


def mark(kind: str, *numbers: float) -> Item:
    """Return a line, such as a rope, in the coordinates of the scene."""
    coordinates = " ".join(f"{number:.1f}" for number in numbers)
    return Item(f"{kind} {coordinates}", "k", 0, 0, 100, 100)


def speed(x: float, y: float, length: float = 9) -> list[Item]:
    """Return three lines behind an object that moves to the right."""
    return [
        mark("l i 1", x - length + 1, y - 5, x, y - 5),
        mark("l i 1", x - length, y, x, y),
        mark("l i 1", x - length + 1, y + 5, x, y + 5),
    ]


def spatial(subject: str, relation: str, other: str) -> list[Item]:
    """Return a scene of two objects: left, right, above (over), on, in or under."""
    if relation in ("left", "right"):
        base, first = put(other), put(subject)
        side = base.half + first.half + 12
        return [base, first._replace(x=-side if relation == "left" else side)]
    if relation == "on":
        base = put(other)
        seat_x, seat_y, seat_width = thing(other).seat
        x, y = base.at(seat_x, seat_y)
        height = min(thing(subject).size, 34)
        return [base, put(subject, x, y + 0.5, height, widest=seat_width * base.height / 100)]
    if relation == "in":
        container = "open box" if other == "box" else other
        base = put(container, height=46)
        seat_x, seat_y, seat_width = thing(container).seat
        x, y = base.at(seat_x, seat_y)
        inside = put(subject, height=42, widest=seat_width * base.height / 100)
        inside = inside._replace(x=x, y=y + 0.4 * inside.height)
        back, front = base.art.split("|")
        return [base._replace(art=back), inside, base._replace(art=front)]
    roof_x, roof_y, roof_width = thing(other).roof
    if relation == "under" and roof_width:
        base = put(other, height=58)
        x, y = base.at(roof_x, roof_y)
        height = min(thing(subject).size, -0.85 * y)
        return [base, put(subject, x, 0, height, widest=roof_width * base.height / 100)]
    low, high = (subject, other) if relation == "under" else (other, subject)
    height = min(thing(low).size, 46)
    return [put(low, height=height), put(high, 0, -height - 13)]


def comparative(subject: str, relation: str, other: str) -> list[Item]:
    """Return a scene of two objects side by side, one of them three times as large."""
    big, small = (subject, other) if relation == "bigger" else (other, subject)
    first = put(big, height=60, widest=76)
    longest = max(first.height, first.half * 2) / 3
    second = put(small, height=longest, widest=longest)
    return [first, second._replace(x=first.half + second.half + 10)]


def staying(who: Item, subject: str, verb: str, other: str) -> list[Item]:
    """Return a scene in which the two touch: ride, sit, hold, lift, carry, eat or wear."""
    if verb in ("ride", "sit"):
        below = put(other, height=40 if verb == "sit" else max(thing(other).size, 40))
        x, y = below.at(*thing(other).seat[:2])
        if subject in THINGS:
            return [below, put(subject, x, y + 1, 30)]
        if verb == "sit":
            x -= 4
        return [below, who._replace(x=x, y=y + 0.42 * who.height)]  # the hip is on the seat
    if verb == "hold":
        x, y = who.at(*HANDS.get(subject, (78, 32)))
        return [who, put(other, x, y + 6, 72 if subject == "elephant" else 54)]
    if verb == "lift":
        return [who, put(other, 0, who.at(0, -3)[1], 32)]
    if verb == "carry":
        load = put(other, 0, who.at(0, 49)[1], 26)
        return [load._replace(x=who.at(64, 0)[0] + load.half), who]
    if verb == "eat":
        return [who, put(other, *who.at(67, 25), 11)]
    return [who, put(other, *who.at(*HEADS.get(subject, (50, 5))), 12)]


def moving(who: Item, subject: str, verb: str, other: str) -> list[Item]:
    """Return a scene in which one of the two moves: chase, kick, throw, fly, push or pull."""
    is_person = subject not in THINGS
    if verb == "chase":
        who, prey = put(subject, pose="run"), put(other, pose="run")
        prey = prey._replace(x=who.half + prey.half + 12, y=-16 if other == "bird" else 0)
        behind = speed(-who.half - 3, -who.height / 2)
        between = speed(prey.x - prey.half - 2, prey.y - prey.height / 2, 7)
        return [who, prey, *behind, *between]
    if verb == "kick":
        x, y = who.at(101, 66)
        return [who, put(other, x + 9, y + 8, 16), *speed(x, y)]
    if verb == "throw":
        x, y = who.at(94, 8)
        return [who, put(other, x + 18, y + 4, 15), *speed(x + 8, y - 4)]
    if verb == "fly":
        x, y = who.at(80, 14)
        string = mark("s w 1", x, y, x + 16, y - 8, x + 34, y - 22)
        return [who, put(other, x + 34, y - 8, 34), string]
    if verb == "push":
        load = put(other, height=max(thing(other).size, 0.7 * who.height))
        x = who.at(96, 0)[0] if is_person else who.half - 1
        return [who, load._replace(x=x + load.half), *speed(-who.half - 1, -who.height / 2)]
    x, y = who.at(8, 42) if is_person else who.at(20, 60)
    load = put(other)
    left = x - 22 - load.half
    rope = mark("s k 1.4", x, y, x - 12, y + 4, left + 0.9 * load.half, -0.4 * load.height)
    return [who, load._replace(x=left), rope]


def action(subject: str, verb: str, other: str) -> list[Item]:
    """Return a scene in which the subject acts on the other object, from left to right."""
    if subject in THINGS:
        who = put(subject)
    else:
        pose = verb if verb in POSES else ""
        who = put(subject, height=52 if verb == "ride" else 60, pose=pose)
    if verb in MOVING:
        return moving(who, subject, verb, other)
    return staying(who, subject, verb, other)


def fit(items: list[Item], size: tuple[int, int], rng: random.Random, mirror: bool) -> list[Item]:
    """Return the scene scaled and moved into a picture, with the ground near its lower edge.

    Args:
        items: the scene.
        size: width and height of the picture in hundredths of its height.
        rng: moves the scene a little.
        mirror: whether left and right are swapped.
    """
    solid = [item for item in items if item.width]
    left = min(item.x - item.half for item in solid)
    right = max(item.x + item.half for item in solid)
    top = max(item.height - item.y for item in solid)
    if len(solid) < len(items):
        left -= 8  # room for the lines behind a moving object
    scale = min(1.35, (size[0] - 12) / (right - left), (size[1] - 20) / top)
    x = size[0] / 2 - scale * (left + right) / 2 + rng.uniform(-2, 2)
    is_high = scale * top > 60
    y = size[1] - 12 + rng.uniform(-1, 2) if is_high else size[1] - 16 - rng.uniform(0, 4)
    moved = []
    for item in items:
        item = item._replace(x=item.x * scale + x, y=item.y * scale + y, height=item.height * scale)
        if mirror:
            item = item._replace(x=size[0] - item.x, flip=True)
        moved.append(item)
    return moved


def arrange(
    subject: str, relation: str, other: str, size: tuple[int, int], rng: random.Random
) -> list[Item]:
    """Return the scene of a triplet in a picture of a size, back to front; sometimes mirrored."""
    if relation in SIZES:
        items = comparative(subject, relation, other)
    elif relation in SPATIAL:
        items = spatial(subject, relation, other)
    else:
        items = action(subject, relation, other)
    mirror = rng.random() < 0.5 and relation not in ("left", "right")
    return fit(items, size, rng, mirror)
