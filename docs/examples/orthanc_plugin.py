"""Orthanc plug-in: convert each CT or MR series that arrives, and store the result in its study.

In Orthanc's configuration:

    "Plugins": ["/usr/share/orthanc/plugins/libOrthancPython.so"],
    "PythonScript": "/etc/orthanc/orthanc_plugin.py",
    "MedTranslate": {"Command": ["/opt/medtranslate/bin/medtranslate"], "Convert": {"CT": "mri"}}

"Convert" says which modalities are converted to what, "Options" adds options of
``medtranslate convert``. It runs as a process of its own; Orthanc goes on meanwhile.
"""

import json
import queue
import subprocess
import tempfile
import threading
from pathlib import Path

import orthanc

SETTINGS = json.loads(orthanc.GetConfiguration()).get("MedTranslate", {})
COMMAND = SETTINGS.get("Command", ["medtranslate"])
CONVERT = SETTINGS.get("Convert", {"CT": "mri"})
STABLE = queue.Queue()


def on_change(change, level, resource):
    """Take note of a series to which nothing more has come for a while (``StableAge``)."""
    if change == orthanc.ChangeType.STABLE_SERIES:
        STABLE.put(resource)


def convert(resource):
    """Convert one series, and store the result."""
    series = json.loads(orthanc.RestApiGet(f"/series/{resource}"))
    tags = series["MainDicomTags"]
    to = CONVERT.get(tags.get("Modality"))
    if to is None or tags.get("Manufacturer") == "medtranslate":  # a result is not converted back
        return
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "source"), Path(folder, "result")
        source.mkdir()
        for instance in series["Instances"]:
            content = orthanc.RestApiGet(f"/instances/{instance}/file")
            (source / f"{instance}.dcm").write_bytes(content)
        # With the seed the same series has the same UIDs: Orthanc keeps one result.
        options = ["--no-preview", "--quiet", "--uid-seed", "Orthanc", *SETTINGS.get("Options", [])]
        command = [*COMMAND, "convert", str(source), "--to", to, "-o", str(result), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            orthanc.LogError(f"{tags['SeriesInstanceUID']}: {done.stderr.strip()}")
            return
        for file in sorted(result.glob("*.dcm")):
            orthanc.RestApiPost("/instances", file.read_bytes())
    orthanc.LogWarning(f"medtranslate: {tags['SeriesInstanceUID']} converted to {to}")


def work():
    """Convert one series after another."""
    while True:
        resource = STABLE.get()
        try:
            convert(resource)
        except Exception as error:  # the next series may be better
            orthanc.LogError(f"medtranslate: series {resource}: {error!r}")


threading.Thread(target=work, daemon=True).start()
orthanc.RegisterOnChangeCallback(on_change)
