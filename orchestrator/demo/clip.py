"""A short clip of its own, so that a demo or a test needs no media file: a moving test picture and a tone."""

import subprocess
from pathlib import Path

from stratos.client.errors import Environment
from stratos.client.video import find_ffmpeg


def make_clip(path: Path, *, seconds: int, width: int = 640, height: int = 360, key_seconds: int = 2) -> Path:
    """Encode `seconds` of H.264 and AAC to `path`, a key frame every `key_seconds`; raises Environment when it fails."""
    rate = 25
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y"]
    command += ["-f", "lavfi", "-i", f"testsrc=size={width}x{height}:rate={rate}:duration={seconds}"]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-threads", "1"]
    command += ["-g", str(rate * key_seconds), "-keyint_min", str(rate * key_seconds), "-sc_threshold", "0"]
    command += ["-c:a", "aac", "-b:a", "96k", "-shortest", str(path)]
    finished = subprocess.run(command, capture_output=True, check=False)
    if finished.returncode != 0:
        reason = (finished.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise Environment(f"ffmpeg could not encode a test clip ({reason}); check `{command[0]} -encoders`")
    return path
