"""The smallest picture and the shortest sound that the conformance fixtures can show."""

import io
import struct
import wave
import zlib

from tenantry import Audio, Image


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _red_pixel() -> bytes:
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)  # one by one, 8 bits each of red, green and blue
    row = b"\x00\xff\x00\x00"  # no filter, then the pixel
    parts = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(row)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _silence() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8)
    return target.getvalue()


PICTURE = Image(_red_pixel(), "image/png")
SOUND = Audio(_silence(), "audio/wav")
