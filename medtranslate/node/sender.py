"""The sending side of the node: results to a receiver by C-STORE, by STOW-RS or into a folder.

`deliver` tries once. What a receiver has taken is told at once, so that a later attempt sends the
rest only; UIDs make an instance that is sent again the same instance.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from medtranslate.errors import MedTranslateError
from medtranslate.files import whole_folder
from medtranslate.node.receiver import client_context
from medtranslate.node.rules import DicomReceiver, FolderReceiver, Receiver, StowReceiver

Taken = Callable[[Sequence[str]], None]

_CHUNK = 16
"""Instances in one STOW-RS request."""


class DeliveryFailed(Exception):
    """A receiver has not taken everything; the message says why.

    Parameters
    ----------
    message : str
    refused : bool
        Whether the receiver was there and refused an instance.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(" ".join(message.split()))
        self.refused = refused


def deliver(receiver: Receiver, files: Sequence[Path], ae_title: str, taken: Taken) -> None:
    """Send instances to a receiver, once.

    Parameters
    ----------
    receiver : Receiver
    files : sequence of Path
        DICOM files, named by nothing in particular.
    ae_title : str
        AE title of the node.
    taken : function
        Called with the SOPInstanceUIDs that the receiver has taken, as soon as that is known.

    Raises
    ------
    DeliveryFailed
        It is down, drops out or refuses an instance; the others were sent.
    """
    if isinstance(receiver, DicomReceiver):
        _store(receiver, files, ae_title, taken)
    elif isinstance(receiver, StowReceiver):
        _stow(receiver, files, taken)
    else:
        _copy(receiver, files, taken)


def uids(file: Path) -> tuple[str, str]:
    """Return SOPClassUID and SOPInstanceUID of a DICOM file."""
    head = pydicom.dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(head.SOPClassUID), str(head.SOPInstanceUID)


def _store(receiver: DicomReceiver, files: Sequence[Path], ae_title: str, taken: Taken) -> None:
    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = receiver.timeout
    entity.connection_timeout = receiver.timeout
    for storage in sorted({uids(file)[0] for file in files}):
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            entity.add_requested_context(UID(storage), syntax)
    where = f"{receiver.ae_title} at {receiver.host}:{receiver.port}"
    tls = receiver.tls and (client_context(receiver.tls), receiver.host)
    try:
        association = entity.associate(
            receiver.host, receiver.port, ae_title=receiver.ae_title, tls_args=tls or None
        )
    except OSError as error:
        raise DeliveryFailed(f"{where} cannot be reached: {error}") from error
    if association.is_rejected:
        reason = getattr(association.acceptor.primitive, "reason_str", "no reason given")
        raise DeliveryFailed(f"{where} rejects the association: {reason}", refused=True)
    if not association.is_established:
        raise DeliveryFailed(f"{where} cannot be reached")
    refused = []
    try:
        for file in files:
            dataset = pydicom.dcmread(file)
            uid = str(dataset.SOPInstanceUID)
            status = _c_store(association, dataset, where)
            if status == 0 or status >> 12 == 0xB:  # PS3.4 B.2.3: success, or with a warning
                taken([uid])
            else:
                refused.append(f"{uid} with status 0x{status:04X}")
    finally:
        if association.is_established:
            association.release()
    if refused:
        count = f"{len(refused)} of {len(files)} instances, {refused[0]}"
        raise DeliveryFailed(f"{where} refuses {count}", refused=True)


def _c_store(association: Any, dataset: Dataset, where: str) -> int:
    try:
        answer = association.send_c_store(dataset)
    except ValueError as error:  # no presentation context for it was accepted
        raise DeliveryFailed(f"{where} does not take it: {error}", refused=True) from error
    except RuntimeError as error:  # no association any more
        raise DeliveryFailed(f"{where} dropped the association") from error
    if "Status" not in answer:
        raise DeliveryFailed(f"{where} dropped the association or did not answer")
    return int(answer.Status)


def _stow(receiver: StowReceiver, files: Sequence[Path], taken: Taken) -> None:
    try:
        client = DICOMwebClient(
            receiver.url.rstrip("/"), session=_session(receiver), timeout=receiver.timeout
        )
    except OSError as error:
        raise DeliveryFailed(f"{receiver.url}: {error}") from error
    client.set_http_retry_params(retry=False)
    refused: list[str] = []
    for start in range(0, len(files), _CHUNK):
        datasets = [pydicom.dcmread(file) for file in files[start : start + _CHUNK]]
        sent = {str(one.SOPInstanceUID) for one in datasets}
        failed = _stow_failures(receiver, client, datasets)
        refused += sorted(failed & sent)
        taken(sorted(sent - failed))
    if refused:
        count = f"{len(refused)} of {len(files)} instances, {refused[0]}"
        raise DeliveryFailed(f"{receiver.url} refuses {count}", refused=True)


def _stow_failures(
    receiver: StowReceiver, client: DICOMwebClient, datasets: Sequence[Dataset]
) -> set[str]:
    """Send some instances, and return the UIDs of those that were not taken."""
    try:
        answer = client.store_instances(datasets)
    except requests.HTTPError as error:
        answered: Any = error.response
        status = int(answered.status_code)
        fault = f"{receiver.url} answers {status} {answered.reason}"
        raise DeliveryFailed(fault, refused=status in (400, 409, 413, 415)) from error
    except (OSError, requests.RequestException) as error:
        raise DeliveryFailed(f"{receiver.url} cannot be reached: {error}") from error
    failed = answer.get("FailedSOPSequence") or []
    return {str(item.get("ReferencedSOPInstanceUID", "")) for item in failed}


def _session(receiver: StowReceiver) -> requests.Session:
    session = requests.Session()
    # Between two programs of one hospital, a proxy of the environment is never meant.
    session.trust_env = False
    if receiver.user:
        secret = receiver.password_file
        password = secret.read_text(encoding="utf-8").strip() if secret else ""
        session.auth = (receiver.user, password)
    if receiver.token_file:
        token = receiver.token_file.read_text(encoding="utf-8").strip()
        session.headers["Authorization"] = f"Bearer {token}"
    tls = receiver.tls
    if tls and tls.authority:
        session.verify = str(tls.authority)
    if tls and tls.certificate:
        session.cert = (str(tls.certificate), str(tls.key or tls.certificate))
    return session


def _copy(receiver: FolderReceiver, files: Sequence[Path], taken: Taken) -> None:
    """Copy instances into a folder for each series, complete or not at all."""
    if not receiver.path.is_dir():
        raise DeliveryFailed(f"there is no folder {receiver.path}")
    series: dict[str, list[tuple[Path, str]]] = {}
    for file in files:
        head = pydicom.dcmread(file, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        series.setdefault(str(head.SeriesInstanceUID), []).append((file, str(head.SOPInstanceUID)))
    for uid, instances in series.items():
        target = receiver.path / uid
        try:
            if not target.is_dir():  # what is there is complete, and the same
                with whole_folder(target) as temporary:
                    for file, instance in instances:
                        shutil.copyfile(file, temporary / f"{instance}.dcm")
        except (OSError, MedTranslateError) as error:
            raise DeliveryFailed(str(error)) from error
        taken([instance for _, instance in instances])
