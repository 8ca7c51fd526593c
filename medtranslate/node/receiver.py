"""The listening side of the node: associations, C-ECHO and C-STORE.

Who may come in is decided when an association is requested: AE titles of both sides and the address
must be listed. An instance is acknowledged only when it is on disk.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pydicom
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medtranslate.errors import NodeFailed
from medtranslate.node.jobs import InstanceInfo
from medtranslate.node.rules import NodeRules, Tls
from medtranslate.node.spool import NotStored, Spool, SpoolFull
from medtranslate.text import escaped

STORAGE = (
    CTImageStorage,
    MRImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)
"""What the node takes; other objects of a study are refused in the negotiation."""

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
)
"""What the reader decodes, the exact ones first."""

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
"""PS3.4 B.2.3: refused, out of resources; a sender tries again later."""
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
NO_RULE = 0xC001
"""Of the range "cannot understand", PS3.4 B.2.3: no rule of the node takes the series."""
SYNTHETIC = 0xC002

_REJECT_CALLING = (0x01, 0x01, 0x03)
_REJECT_CALLED = (0x01, 0x01, 0x07)
_IDLE = 60.0
"""Seconds without a message after which an association is released."""

_TAGS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "SyntheticData",
)

logger = logging.getLogger("medtranslate.node")


@dataclass(frozen=True)
class Counted:
    """What the receiving side tells a counter.

    Parameters
    ----------
    instance : function
        Called with the outcome of each C-STORE: ``"stored"``, ``"repeated"``, or why not.
    rejected : function
        Called for each association that is rejected.
    """

    instance: Callable[[str], None] = lambda outcome: None
    rejected: Callable[[], None] = lambda: None


@dataclass
class _Open:
    """The series that each open association has sent some of."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    series: dict[int, set[str]] = field(default_factory=dict)

    def touch(self, association: object, key: str) -> bool:
        """Note that an association sends a series; False if that was known."""
        with self.lock:
            known = self.series.setdefault(id(association), set())
            if key in known:
                return False
            known.add(key)
            return True

    def sends(self, key: str) -> bool:
        """Tell whether an open association has sent some of a series."""
        with self.lock:
            return any(key in keys for keys in self.series.values())

    def end(self, association: object) -> set[str]:
        """Forget an association; return its series that no other one is sending."""
        with self.lock:
            ended = self.series.pop(id(association), set())
            return ended.difference(*self.series.values())


class Server:
    """Listens for associations until it is closed.

    Parameters
    ----------
    rules : NodeRules
    spool : Spool
        Takes what is received.
    counted : Counted
        Is told what happens.

    Raises
    ------
    NodeFailed
        The port is taken, or a certificate cannot be used.
    """

    def __init__(self, rules: NodeRules, spool: Spool, counted: Counted | None = None) -> None:
        self._rules, self._spool = rules, spool
        self._counted = counted or Counted()
        self._open = _Open()
        listen = rules.listen
        entity = AE(ae_title=listen.ae_titles[0])
        entity.maximum_associations = rules.limits.associations
        entity.network_timeout = _IDLE
        entity.add_supported_context(Verification)
        for storage in STORAGE:
            entity.add_supported_context(storage, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
        ]
        try:
            server = entity.start_server(
                (listen.host, listen.port),
                block=False,
                evt_handlers=handlers,
                ssl_context=server_context(listen.tls) if listen.tls else None,
            )
        except OSError as error:
            where = f"{listen.host}:{listen.port}"
            raise NodeFailed(f"cannot listen on {where}: {error.strerror or error}") from error
        assert server is not None
        self._entity, self._server = entity, server

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self._server.server_address[1])

    def is_sending(self, key: str) -> bool:
        """Tell whether an association that has sent some of a series is still open."""
        return self._open.sends(key)

    def close(self) -> None:
        """Stop listening, and abort what is under way."""
        self._server.shutdown()
        self._entity.shutdown()

    def _requested(self, event: evt.Event) -> None:
        association = event.assoc
        association.network_timeout_response = "A-RELEASE"
        try:
            answer = self._answer(*_titles(association.requestor))
        except Exception as error:  # or pynetdicom would log it and let the association in
            logger.error("rejected: a request that cannot be read: %s", error)
            answer = _REJECT_CALLING
        if answer:
            self._counted.rejected()
            association.acse.send_reject(*answer)
            association.kill()

    def _answer(self, called: str, calling: str, address: str) -> tuple[int, int, int] | None:
        """Return how to reject an association, None to let it in."""
        if not any(sender.admits(calling, address) for sender in self._rules.senders):
            reason, answer = "is not listed among the senders", _REJECT_CALLING
        elif called not in self._rules.listen.ae_titles:
            reason, answer = f"calls the node {called!r}, which it is not", _REJECT_CALLED
        else:
            return None
        logger.warning("rejected: %r from %s %s", calling, address, reason)
        return answer

    def _stored(self, event: evt.Event) -> int:
        status, outcome, fault = self._store(event)
        self._counted.instance(outcome)
        if fault:
            calling = event.assoc.requestor.ae_title
            uid = _instance(event)
            told = escaped(f"instance {uid} from {calling}: {fault}")
            logger.warning("%s: %s", outcome, told)
        return status

    def _store(self, event: evt.Event) -> tuple[int, str, str]:
        """Keep an instance; return the status, the outcome for the figures, and the fault."""
        try:
            content = event.encoded_dataset()
            info, synthetic = self._info(event, content)
        except Exception as error:  # pydicom raises what it will on a damaged data set
            return CANNOT_UNDERSTAND, "refused", f"is damaged: {error}"
        if info.instance != _instance(event):
            return MISMATCH, "refused", f"holds another SOPInstanceUID, {info.instance}"
        if synthetic:
            return SYNTHETIC, "refused", "is synthetic itself"
        rule = self._rules.match(
            modality=info.modality,
            body_part=info.body_part,
            description=info.description,
            called=info.called,
            calling=info.calling,
        )
        if rule is None:
            discarded = self._rules.unmatched == "discard"
            outcome = "discarded" if discarded else "refused"
            return SUCCESS if discarded else NO_RULE, outcome, "no rule takes its series"
        try:
            new = self._spool.store(info, content, rule.name)
        except SpoolFull as error:
            return OUT_OF_RESOURCES, "refused", str(error)
        except NotStored as error:
            return CANNOT_UNDERSTAND, "refused", str(error)
        if self._open.touch(event.assoc, info.key):
            self._spool.mark_open([info.key], True)
        return SUCCESS, "stored" if new else "repeated", ""

    def _info(self, event: evt.Event, content: bytes) -> tuple[InstanceInfo, bool]:
        dataset = pydicom.dcmread(
            BytesIO(content), stop_before_pixels=True, specific_tags=list(_TAGS)
        )
        called, calling, address = _titles(event.assoc.requestor)
        info = InstanceInfo(
            instance=str(dataset.SOPInstanceUID),
            series=str(dataset.SeriesInstanceUID),
            study=str(dataset.StudyInstanceUID),
            modality=str(dataset.get("Modality", "")),
            body_part=str(dataset.get("BodyPartExamined", "")),
            description=str(dataset.get("SeriesDescription", "")),
            called=called,
            calling=calling,
            host=address,
        )
        return info, dataset.get("SyntheticData") == "YES"

    def _released(self, event: evt.Event) -> None:
        self._spool.mark_open(self._open.end(event.assoc), False)

    def _aborted(self, event: evt.Event) -> None:
        series = self._open.end(event.assoc)
        if series:
            names = ", ".join(key.partition("@")[0] for key in sorted(series))
            calling = event.assoc.requestor.ae_title
            logger.warning("half-sent: the association of %s was cut off: %s", calling, names)


def _titles(requestor: Any) -> tuple[str, str, str]:
    """Return whom a requestor calls, who it says it is, and its address."""
    request = requestor.primitive
    return (
        request.called_ae_title.strip(),
        request.calling_ae_title.strip(),
        str(requestor.address),
    )


def _instance(event: Any) -> str:
    return str(event.request.AffectedSOPInstanceUID)


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS context of the listening side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, tls)
    if tls.authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS context of the sending side."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    path = tls.certificate
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
        path = tls.authority
        if tls.authority:
            context.load_verify_locations(tls.authority)
    except OSError as error:  # ssl.SSLError is one
        raise NodeFailed(f"cannot be used as a certificate: {error}", path=path) from error
