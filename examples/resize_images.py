"""Make thumbnails of large pictures, generated here so that there are some.

Reading, scaling and writing an image computes in Pillow's C code, mostly outside the GIL.
Needs Pillow.

    python resize_images.py [--images N]
"""

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from autopar import auto_map, observe

PHOTOGRAPH = (1200, 900)
THUMBNAIL = (200, 200)


def make_photograph(folder: Path, number: int) -> Path:
    """A picture full of detail: grains of light and shade."""
    path = folder / f"{number:04}.jpg"
    Image.effect_noise(PHOTOGRAPH, sigma=40).convert("RGB").save(path, quality=90)
    return path


def thumbnail(path: Path) -> bytes:
    with Image.open(path) as picture:
        small = picture.resize(THUMBNAIL, Image.Resampling.LANCZOS)
    file = BytesIO()
    small.save(file, "JPEG")
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make thumbnails of generated images.")
    parser.add_argument("--images", type=int, default=30)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        photographs = [make_photograph(Path(name), number) for number in range(options.images)]
        with observe() as seen:
            thumbnails = auto_map(thumbnail, photographs)
        one_by_one = [thumbnail(path) for path in photographs]

    size_bytes = sum(len(image) for image in thumbnails)
    print(f"{len(thumbnails)} thumbnails, {size_bytes} bytes")
    print(f"{seen.reports[0].backend}: {seen.reports[0].because}")
    if thumbnails != one_by_one:
        sys.exit("this is not what the plain loop gives")
    print("same as the plain loop")


if __name__ == "__main__":
    main()
