"""A scan's way through an archive, run inside a network namespace of its own.

``python orthanc_loopback.py ORTHANC STORESCU WORK SOURCE...``: starts Orthanc on loopback; for each
folder SOURCE sends its series with storescu, fetches it, makes a derived series of it, sends that
back and finds it over REST and DICOMweb, then empties the archive. Prints a JSON list; anything
amiss raises.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pydicom

from medtranslate.cli.lean import lean_imports

lean_imports()  # seconds less of importing MONAI

from factory import translated  # noqa: E402

from medtranslate.imaging.dicom import DicomReader, write_series  # noqa: E402

HTTP, DICOM = 8042, 4242
URL = f"http://127.0.0.1:{HTTP}"
PATIENCE = 60.0
PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so",)
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def raise_loopback() -> None:
    """Bring up ``lo``, which is down in a fresh namespace (SIOCGIFFLAGS, SIOCSIFFLAGS)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = fcntl.ioctl(probe, 0x8913, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))


def get(path: str, accept: str = "application/json") -> bytes:
    request = urllib.request.Request(URL + path, headers={"Accept": accept})
    with OPENER.open(request, timeout=20) as answer:
        return answer.read()


def find(level: str, study: str) -> list[dict]:
    query = {"Level": level, "Query": {"StudyInstanceUID": study}, "Expand": True}
    request = urllib.request.Request(URL + "/tools/find", data=json.dumps(query).encode())
    with OPENER.open(request, timeout=20) as answer:
        return json.loads(answer.read())


def start(orthanc: str, work: Path) -> subprocess.Popen:
    config = {
        "Name": "TEST",
        "StorageDirectory": str(work / "storage"),
        "IndexDirectory": str(work / "storage"),
        "Plugins": [plugin for plugin in PLUGINS if Path(plugin).exists()],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": HTTP,
        "DicomPort": DICOM,
        "DicomAet": "ORTHANC",
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    path = work / "orthanc.json"
    path.write_text(json.dumps(config))
    log = (work / "orthanc.log").open("w")
    server = subprocess.Popen([orthanc, str(path)], stdout=log, stderr=log)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            get("/system")
            return server
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > until:
                server.kill()
                raise RuntimeError((work / "orthanc.log").read_text()[-2000:]) from None
            time.sleep(0.2)


def send(storescu: str, folder: Path) -> None:
    command = [storescu, "-R", "-aec", "ORTHANC", "127.0.0.1", str(DICOM)]
    done = subprocess.run(
        [*command, *map(str, sorted(folder.iterdir()))], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def clear() -> None:
    for patient in json.loads(get("/patients")):
        OPENER.open(urllib.request.Request(f"{URL}/patients/{patient}", method="DELETE")).close()


def fetch(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(json.loads(get("/instances"))):
        (folder / f"{number}.dcm").write_bytes(get(f"/instances/{name}/file", "*/*"))


def there_and_back(storescu: str, source: Path, work: Path) -> dict:
    work.mkdir()
    sent = len(list(source.iterdir()))
    send(storescu, source)
    fetch(work / "fetched")
    reader = DicomReader()
    scan = reader.read(work / "fetched")
    reader.get_data(scan)
    image = translated(scan.image())
    derived = write_series(image, work / "derived")
    send(storescu, derived)
    first = pydicom.dcmread(derived / "0001.dcm")
    study, uid = first.StudyInstanceUID, first.SeriesInstanceUID
    found = find("Series", study)
    by_rest = [one for one in found if one["MainDicomTags"]["SeriesInstanceUID"] == uid]
    if len(find("Study", study)) != 1 or len(by_rest) != 1:
        raise RuntimeError("the derived series is not in its study")
    if len(json.loads(get("/instances"))) != 2 * sent:
        raise RuntimeError("an instance was not accepted")
    web = f"/dicom-web/studies/{study}/series"
    listed = {one["0020000E"]["Value"][0] for one in json.loads(get(web, "application/dicom+json"))}
    equal = 0
    for number, path in enumerate(sorted(derived.iterdir())):
        ours = pydicom.dcmread(path)
        frame = get(
            f"{web}/{uid}/instances/{ours.SOPInstanceUID}/frames/1",
            'multipart/related; type="application/octet-stream"',
        )
        expected = np.asarray(image.as_tensor()[0, :, :, number]).T
        equal += bool(ours.PixelData in frame and np.array_equal(ours.pixel_array, expected))
    return {
        "instances": len(by_rest[0]["Instances"]),
        "dicomweb": uid in listed and len(listed) == 2,
        "equal": equal,
        "modality": by_rest[0]["MainDicomTags"]["Modality"],
    }


def main() -> None:
    orthanc, storescu, work, *sources = sys.argv[1:]
    raise_loopback()
    server, done = start(orthanc, Path(work)), []
    try:
        for source in map(Path, sources):
            done.append(there_and_back(storescu, source, Path(work) / f"work-{source.name}"))
            clear()
        print(json.dumps(done))
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
